"""`Classify` over a real socket: right answers, and one clear status for each wrong request."""

import asyncio
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from convlens.client import (
    AsyncClient,
    Client,
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    OverloadedError,
    ServerError,
)
from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc as pb_grpc
from tests.support import DIGITS, RunningServer, grey_png


def test_classify_names_the_bundled_digits(lenet5_server: RunningServer) -> None:
    with Client(lenet5_server.address) as client:
        answers = {picture.name: client.classify(picture, top_k=1) for picture in DIGITS}
    assert len(answers) == 20
    for name, answer in answers.items():
        assert answer.predictions[0].label == name.split("-")[0], name
        assert answer.weights_origin == "trained"


@pytest.mark.parametrize(("top_k", "returned"), [(0, 5), (3, 3), (10, 10), (1000, 10)])
def test_top_k_0_means_5_and_too_many_means_all(
    lenet5_server: RunningServer, top_k: int, returned: int
) -> None:
    with Client(lenet5_server.address) as client:
        predictions = client.classify(DIGITS[0], top_k=top_k).predictions
    assert len(predictions) == returned
    probabilities = [entry.probability for entry in predictions]
    assert probabilities == sorted(probabilities, reverse=True)
    if returned == 10:
        assert sum(probabilities) == pytest.approx(1.0, abs=1e-6)


def test_an_error_says_what_was_left_of_the_deadline(lenet5_server: RunningServer) -> None:
    with grpc.insecure_channel(lenet5_server.address) as channel:
        classify = pb_grpc.ClassifierStub(channel).Classify
        left: list[Any] = []
        for timeout in (30, None):
            with pytest.raises(grpc.RpcError) as caught:
                classify(pb.ClassifyRequest(image=b"no picture"), timeout=timeout)
            error: Any = caught.value
            left.append(dict(error.trailing_metadata()).get("convlens-left-us"))
    assert 0 < int(left[0]) <= 30_100_000  # gRPC rounds a timeout up, here to a tenth of a second
    assert left[1] is None


def test_the_timing_stands_in_the_message_and_in_the_trailers(
    lenet5_server: RunningServer,
) -> None:
    with grpc.insecure_channel(lenet5_server.address) as channel:
        stub = pb_grpc.ClassifierStub(channel)
        request = pb.ClassifyRequest(image=DIGITS[0].read_bytes(), request_id="mine")
        response, call = stub.Classify.with_call(request)
    trailers = dict(call.trailing_metadata() or ())
    timing = response.timing
    assert response.request_id == "mine"
    assert timing.batch_size == 1
    assert timing.infer_us > 0
    assert timing.decode_us > 0
    assert timing.decode_us + timing.queue_us + timing.infer_us <= timing.total_us
    for stage in ("decode", "queue", "infer", "total"):
        assert trailers[f"convlens-{stage}-us"] == str(getattr(timing, f"{stage}_us"))
    assert trailers["convlens-batch-size"] == "1"


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (b"", "empty"),
        (b"this is text, not a picture", "not a picture"),
        (DIGITS[0].read_bytes()[:150], "broken"),
    ],
    ids=["empty", "text", "truncated"],
)
def test_classify_rejects_what_is_no_whole_picture(
    lenet5_server: RunningServer, image: bytes, said: str
) -> None:
    with (
        Client(lenet5_server.address) as client,
        pytest.raises(InvalidArgumentError, match=said),
    ):
        client.classify(image)


def test_classify_rejects_a_truncated_jpeg(
    lenet5_server: RunningServer, photographs: dict[str, Path], tmp_path: Path
) -> None:
    from PIL import Image

    whole = tmp_path / "chelsea.jpg"
    Image.open(photographs["chelsea"]).save(whole, quality=90)
    data = whole.read_bytes()
    with Client(lenet5_server.address) as client:
        assert client.classify(data).predictions
        with pytest.raises(InvalidArgumentError, match="truncated"):
            client.classify(data[: len(data) // 2])


def test_a_decompression_bomb_is_refused_on_its_header(lenet5_server: RunningServer) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000)))
    bomb += chunk(b"IEND", b"")
    with (
        Client(lenet5_server.address) as client,
        pytest.raises(InvalidArgumentError, match="60000 x 60000 pixels; the limit is 64000000"),
    ):
        client.classify(bomb)


def test_a_message_over_the_limit_is_refused(lenet5_server: RunningServer) -> None:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(lenet5_server.address, options=options) as channel:
        stub = pb_grpc.ClassifierStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Classify(pb.ClassifyRequest(image=bytes(33 * 1024 * 1024)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_unknown_model_is_not_found_and_the_message_names_those_there_are(
    two_model_server: RunningServer,
) -> None:
    with (
        Client(two_model_server.address) as client,
        pytest.raises(NotFoundError, match=r"'lenet9': there are brightness, broken, versions"),
    ):
        client.classify(grey_png(0), model="lenet9")


def test_an_unknown_version_is_not_found_and_the_message_names_those_there_are(
    two_model_server: RunningServer,
) -> None:
    with (
        Client(two_model_server.address) as client,
        pytest.raises(NotFoundError, match="no version '3': there are 2, 10"),
    ):
        client.classify(grey_png(0), model="versions", version="3")


def test_no_model_among_several_is_invalid_and_the_message_lists_them(
    two_model_server: RunningServer,
) -> None:
    with (
        Client(two_model_server.address) as client,
        pytest.raises(InvalidArgumentError, match="name a model: there are brightness"),
    ):
        client.classify(grey_png(0))


def test_the_latest_version_is_the_highest_number(two_model_server: RunningServer) -> None:
    with Client(two_model_server.address) as client:
        assert client.classify(grey_png(0), model="versions").version == "10"
        assert client.classify(grey_png(0), model="versions", version="2").version == "2"


def test_random_weights_are_called_random_beside_their_predictions(
    two_model_server: RunningServer,
) -> None:
    with Client(two_model_server.address) as client:
        assert client.classify(grey_png(0), model="versions").weights_origin == "random"


def test_a_broken_model_answers_failed_precondition_with_the_reason(
    two_model_server: RunningServer,
) -> None:
    with Client(two_model_server.address) as client:
        with pytest.raises(ServerError, match="broken") as caught:
            client.classify(grey_png(0), model="broken")
        assert caught.value.code == "FAILED_PRECONDITION"


async def _flood(client: AsyncClient, pictures: int) -> list[object]:
    calls = (client.classify(grey_png(level)) for level in range(pictures))
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_a_full_queue_refuses_with_a_retry_time_and_loses_nothing(
    slow_server: RunningServer,
) -> None:
    async with AsyncClient(slow_server.address, retries=0) as client:
        answers = await _flood(client, 12)
    refused = [answer for answer in answers if isinstance(answer, OverloadedError)]
    others = [answer for answer in answers if not isinstance(answer, OverloadedError)]
    assert len(refused) == 8
    assert all(error.retry_after_seconds > 0 for error in refused)
    assert [type(answer).__name__ for answer in others] == ["Classification"] * 4


async def test_a_deadline_that_passes_in_the_queue_costs_no_inference(
    slow_server: RunningServer,
) -> None:
    series = 'convlens_stage_seconds_count{model="slow",stage="infer",version="1"}'
    before = slow_server.metric(series)
    async with AsyncClient(slow_server.address) as client:
        first = asyncio.create_task(client.classify(grey_png(1)))
        slow_server_busy = 'convlens_in_flight{model="slow",version="1"}'
        await asyncio.to_thread(
            slow_server.wait_for_metric, slow_server_busy, lambda value: value == 1
        )
        async with AsyncClient(slow_server.address, timeout_seconds=0.05) as impatient:
            with pytest.raises(DeadlineExceededError):
                await impatient.classify(grey_png(2))
        await first
    slow_server.wait_for_metric(slow_server_busy, lambda value: value == 0)
    assert slow_server.metric(series) - before == 1


async def test_a_deadline_that_cannot_be_met_is_refused_at_the_door(
    slow_server: RunningServer,
) -> None:
    in_flight = 'convlens_in_flight{model="slow",version="1"}'
    rejected = 'convlens_rejected_total{model="slow",reason="deadline"}'
    async with AsyncClient(slow_server.address) as client:
        alone = await client.classify(grey_png(0))
        seconds = alone.timing.infer_us / 1e6
        waiting = [asyncio.create_task(client.classify(grey_png(level))) for level in range(3)]
        await asyncio.to_thread(slow_server.wait_for_metric, in_flight, lambda value: value == 3)
        before = slow_server.metric(rejected)
        async with AsyncClient(slow_server.address, timeout_seconds=seconds) as impatient:
            with pytest.raises(DeadlineExceededError, match="the deadline comes sooner"):
                await impatient.classify(grey_png(9))
        assert slow_server.metric(rejected) - before == 1
        await asyncio.gather(*waiting)


async def test_a_cancelled_call_leaves_the_queue_and_its_neighbours_alone(
    slow_server: RunningServer,
) -> None:
    infer = 'convlens_stage_seconds_count{model="slow",stage="infer",version="1"}'
    in_flight = 'convlens_in_flight{model="slow",version="1"}'
    before = slow_server.metric(infer)
    async with AsyncClient(slow_server.address) as client:
        first = asyncio.create_task(client.classify(grey_png(1)))
        await asyncio.to_thread(slow_server.wait_for_metric, in_flight, lambda value: value == 1)
        cancelled = [asyncio.create_task(client.classify(grey_png(2))) for _ in range(2)]
        last = asyncio.create_task(client.classify(grey_png(3)))
        await asyncio.to_thread(slow_server.wait_for_metric, in_flight, lambda value: value == 4)
        for task in cancelled:
            task.cancel()
        answers = await asyncio.gather(first, last)
    assert [len(answer.predictions) for answer in answers] == [2, 2]
    assert slow_server.metric(infer) - before == 2
    slow_server.wait_for_metric(in_flight, lambda value: value == 0)


def test_pictures_that_arrive_together_share_an_inference(lenet5_server: RunningServer) -> None:
    image = DIGITS[0].read_bytes()
    expected = None
    with Client(lenet5_server.address) as client:
        alone = client.classify(image)
        with ThreadPoolExecutor(64) as threads:
            answers = list(threads.map(lambda _: client.classify(image), range(512)))
    assert max(answer.timing.batch_size for answer in answers) > 1
    expected = alone.predictions[0]
    for answer in answers:
        assert answer.predictions[0].index == expected.index
        assert answer.predictions[0].probability == pytest.approx(expected.probability, abs=1e-5)


def test_two_callers_never_get_each_others_answer(lenet5_server: RunningServer) -> None:
    pictures = DIGITS * 20
    with Client(lenet5_server.address) as client, ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda picture: client.classify(picture, top_k=1), pictures))
    for picture, answer in zip(pictures, answers, strict=True):
        assert answer.predictions[0].label == picture.name.split("-")[0]


def test_an_internal_failure_shows_an_id_and_no_detail(tmp_path: Path) -> None:
    """A model whose graph fails on some inputs only: it loads, and breaks later."""
    import numpy as np
    from onnx import helper

    from tests.support import GREY_32, running_server, save_model

    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("ReduceMax", ["mean"], ["brightest"], keepdims=0),
        helper.make_node("Cast", ["brightest"], ["index"], to=7),
        helper.make_node("Gather", ["table", "index"], ["row"]),
        helper.make_node("Add", ["row", "zero"], ["logits"]),
    ]
    weights = {
        "table": np.zeros((1, 1, 2), np.float32),
        "zero": np.zeros((1, 2), np.float32),
    }
    bright_fails = {**GREY_32, "scale": 1.0}
    save_model(tmp_path / "fragile.onnx", nodes, weights, metadata={"preprocessing": bright_fails})
    with running_server("--models", str(tmp_path)) as server, Client(server.address) as client:
        assert client.classify(grey_png(0)).predictions[0].label == ""
        with pytest.raises(ServerError, match=r"internal error; .* under [0-9a-f]{16}$") as caught:
            client.classify(grey_png(255))
        assert caught.value.code == "INTERNAL"
        assert client.classify(grey_png(0)).predictions


def test_an_answer_within_the_deadline_is_not_delayed_by_it(lenet5_server: RunningServer) -> None:
    with Client(lenet5_server.address, timeout_seconds=20) as client:
        start = time.monotonic()
        client.classify(DIGITS[0])
        assert time.monotonic() - start < 10
