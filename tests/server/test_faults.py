"""What clients and networks do wrong: the server loses nothing of the others', and goes on."""

import asyncio
import contextlib
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from google.protobuf.message import Message
from PIL import Image
from skimage import data as skimage_data

from convlens.analysis import read_metadata
from convlens.analysis.card import ModelCard
from convlens.proto import classifier_pb2, inference_pb2
from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc as pb_grpc
from convlens.server.errors import InvalidPictureError
from convlens.server.picture import to_input
from convlens.server.settings import Settings
from tests.server.tensors import raw_request
from tests.support import (
    BUNDLED,
    DIGITS,
    RunningServer,
    encode,
    grey_png,
    running_server,
    save_brightness_model,
    save_slow_model,
)

DIGIT = DIGITS[0].read_bytes()
SEED = 20260
MESSAGES_A_METHOD = 60
MUTATIONS = 10_000
MUTATIONS_OVER_THE_WIRE = 500


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """A server of digits with a long queue."""
    with running_server("--queue-size", "2000") as server:
        yield server


def _address(server: RunningServer) -> tuple[str, int]:
    host, _, port = server.address.rpartition(":")
    return host, int(port)


def _cpu_seconds(server: RunningServer) -> float:
    times = psutil.Process(server.process.pid).cpu_times()
    return times.user + times.system


def _assert_answers(server: RunningServer) -> None:
    """The server names a digit, over a connection of its own."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    with grpc.insecure_channel(server.address, options) as channel:
        answer = pb_grpc.ClassifierStub(channel).Classify(
            pb.ClassifyRequest(image=DIGIT, top_k=1), timeout=30
        )
    assert answer.predictions[0].label == DIGITS[0].name[0]


def _wait_until_idle(server: RunningServer) -> None:
    server.wait_for_metric(
        'convlens_in_flight{model="lenet5",version="1"}', lambda value: value == 0
    )


def test_garbage_on_the_port_hurts_nobody(server: RunningServer) -> None:
    rng = random.Random(SEED)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for start in (b"", preface, preface + b"\0\0\0\4\0\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n"):
        for _ in range(25):
            with (
                socket.create_connection(_address(server)) as wire,
                contextlib.suppress(ConnectionError),
            ):
                wire.sendall(start + rng.randbytes(rng.randrange(1, 5000)))
    _assert_answers(server)


def test_connections_that_say_nothing_or_stop_halfway_do_not_keep_others_out(
    server: RunningServer,
) -> None:
    whole = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with contextlib.ExitStack() as wires:
        for number in range(200):
            wire = wires.enter_context(socket.create_connection(_address(server)))
            wire.sendall(whole[: number % (len(whole) + 1)])
        _assert_answers(server)
    _assert_answers(server)


def _methods() -> list[tuple[str, bool, Message]]:
    """Each RPC of both services: its path, whether it streams, a good request."""
    good: dict[str, Message] = {
        "ClassifyRequest": pb.ClassifyRequest(image=DIGIT, model="lenet5", top_k=3),
        "ModelInferRequest": raw_request(
            "lenet5", input=("FP32", np.zeros((1, 1, 32, 32), np.float32))
        ),
    }
    return [
        (
            f"/{service.full_name}/{method.name}",
            method.client_streaming,
            good.get(method.input_type.name) or method.input_type._concrete_class(),
        )
        for module in (classifier_pb2, inference_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


def _mangled(good: bytes, rng: random.Random) -> bytes:
    """Cut short, with some bytes changed, repeated, or nothing but noise."""
    match rng.randrange(4):
        case 0:
            return good[: rng.randrange(len(good) + 1)]
        case 1:
            wrong = bytearray(good or b"\0")
            for _ in range(rng.randrange(1, 8)):
                wrong[rng.randrange(min(len(wrong), 200))] = rng.randrange(256)
            return bytes(wrong)
        case 2:
            return good + rng.randbytes(rng.randrange(1, 50))
        case _:
            return rng.randbytes(rng.randrange(300))


def test_mangled_messages_to_every_method_are_answered_or_refused_as_the_callers_fault(
    server: RunningServer,
) -> None:
    rng = random.Random(SEED)
    codes = set()
    with grpc.insecure_channel(server.address) as channel:
        for path, streams, good in _methods():
            call: Any = (channel.stream_stream if streams else channel.unary_unary)(path)
            for _ in range(MESSAGES_A_METHOD):
                message = _mangled(good.SerializeToString(), rng)
                codes.add(_code_of(call, message, streams=streams))
    callers_fault = {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OK,
    }
    assert codes == callers_fault
    _assert_answers(server)
    _wait_until_idle(server)


def _code_of(call: Any, message: bytes, *, streams: bool) -> grpc.StatusCode:
    try:
        answer = call(iter([message]) if streams else message, timeout=30)
        if streams:
            list(answer)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


CLIENT = """
import sys, itertools, grpc
from convlens.proto import classifier_pb2 as pb, classifier_pb2_grpc as pb_grpc
image = open(sys.argv[2], "rb").read()
stub = pb_grpc.ClassifierStub(grpc.insecure_channel(sys.argv[1]))
print("go", flush=True)
if sys.argv[3] == "stream":
    requests = (pb.ClassifyRequest(image=image) for _ in itertools.count())
    for _ in stub.ClassifyStream(requests):
        print("answer", flush=True)
calls = [stub.Classify.future(pb.ClassifyRequest(image=image)) for _ in range(100)]
for call in itertools.cycle(calls):
    call.result()
    print("answer", flush=True)
"""


@pytest.mark.parametrize("kind", ["calls", "stream"])
def test_a_client_killed_in_the_middle_leaves_nothing_in_flight(
    server: RunningServer, kind: str
) -> None:
    command = [sys.executable, "-c", CLIENT, server.address, str(DIGITS[0]), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        for line in client.stdout:
            if line == "answer\n":
                break
        client.send_signal(signal.SIGKILL)
    _wait_until_idle(server)
    _assert_answers(server)


async def _cancel_in_flight(server: RunningServer, count: int, image: bytes) -> None:
    """Start so many calls, and cancel each while it is in flight."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        classify: Any = pb_grpc.ClassifierStub(channel).Classify
        calls = [classify(pb.ClassifyRequest(image=image)) for _ in range(count)]
        await asyncio.sleep(0.02)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_a_thousand_cancellations_in_flight_leave_nothing_behind(
    server: RunningServer,
) -> None:
    await _cancel_in_flight(server, 1000, DIGIT)
    await asyncio.to_thread(_assert_answers, server)
    await asyncio.to_thread(_wait_until_idle, server)


async def test_a_burst_is_answered_or_refused_with_a_reason(server: RunningServer) -> None:
    """Left to itself, gRPC drops calls beyond a thousand as CANCELLED, which nobody retries."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(server.address, options))
            for _ in range(8)
        ]

        async def code_of(number: int) -> grpc.StatusCode:
            call: Any = pb_grpc.ClassifierStub(channels[number % 8]).Classify
            try:
                await call(pb.ClassifyRequest(image=DIGIT))
            except grpc.aio.AioRpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        codes = await asyncio.gather(*(code_of(number) for number in range(3000)))
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert grpc.StatusCode.OK in codes


async def test_calls_cancelled_in_flight_cost_less_than_ten_requests(tmp_path: Path) -> None:
    """200 calls of a slow model, one at a time.

    What counts is the processor's time, the next call's included; that it waits for none of them is
    seen from the inferences that were run.
    """
    save_slow_model(tmp_path / "slow.onnx", seconds=0.3)
    flags = ("--models", str(tmp_path), "--max-batch-size", "1", "--queue-size", "500")
    rows = 'convlens_batch_size_sum{model="slow",version="1"}'
    request = pb.ClassifyRequest(image=grey_png(100))
    with running_server(*flags) as slow:
        async with grpc.aio.insecure_channel(slow.address) as channel:
            classify: Any = pb_grpc.ClassifierStub(channel).Classify
            await classify(request)
            before = _cpu_seconds(slow)
            for _ in range(5):
                await classify(request)
            one = (_cpu_seconds(slow) - before) / 5
            before, rows_before = _cpu_seconds(slow), slow.metric(rows)
            calls = [classify(request) for _ in range(200)]
            in_flight = 'convlens_in_flight{model="slow",version="1"}'
            await asyncio.to_thread(slow.wait_for_metric, in_flight, lambda value: value > 190)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            assert (await classify(request)).predictions
            spent = _cpu_seconds(slow) - before
            # What ran while they arrived, the one that ran when they were cancelled, the next call.
            assert slow.metric(rows) - rows_before < 10
    assert spent < 10 * one, f"{spent:.2f} s, one request costs {one:.2f} s"


async def test_who_does_not_read_a_stream_is_not_served_and_others_are(
    server: RunningServer,
) -> None:
    """The reader's window fills up; then the server takes nothing more from it."""
    sent = 0

    async def requests() -> AsyncIterator[pb.ClassifyRequest]:
        nonlocal sent
        while True:
            sent += 1
            # The id comes back in the answer, and fills the window soon.
            yield pb.ClassifyRequest(image=DIGIT, request_id="x" * 20_000)

    async with grpc.aio.insecure_channel(server.address) as channel:
        call = pb_grpc.ClassifierStub(channel).ClassifyStream(requests())
        await call.read()
        counts = [-1]
        while sent != counts[-1]:  # until it stands still
            counts.append(sent)
            await asyncio.sleep(0.5)
        assert sent < 10_000
        await asyncio.to_thread(_assert_answers, server)
        for _ in range(sent):  # who reads again is served again
            await call.read()
        assert sent > counts[-1]
        call.cancel()
    await asyncio.to_thread(_wait_until_idle, server)


def _photographs() -> list[bytes]:
    """One of each format, small enough that ten thousand take seconds."""
    picture = Image.fromarray(skimage_data.chelsea()).resize((96, 64))
    formats = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
    return [encode(picture, name) for name in formats]


def _mutations(count: int, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    originals = _photographs()
    for number in range(count):
        data = bytearray(originals[number % len(originals)])
        for _ in range(rng.choice((1, 2, 4, 16, 64))):
            # Headers and tables stand at the start, and there a change does most.
            at = rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 100))
            data[at] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        yield bytes(data)


def test_ten_thousand_malformed_pictures_are_decoded_or_refused() -> None:
    preprocessing = ModelCard.from_metadata(read_metadata(BUNDLED)).preprocessing
    assert preprocessing is not None
    refused = 0
    for data in _mutations(MUTATIONS, SEED):
        try:
            tensor = to_input(data, preprocessing, Settings().max_pixels)
            assert tensor.shape == (1, 32, 32)
        except InvalidPictureError:
            refused += 1
    assert MUTATIONS * 0.1 < refused < MUTATIONS


async def test_malformed_pictures_over_the_wire_fail_alone(server: RunningServer) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        classify: Any = pb_grpc.ClassifierStub(channel).Classify

        async def code_of(image: bytes) -> grpc.StatusCode:
            try:
                await classify(pb.ClassifyRequest(image=image))
            except grpc.aio.AioRpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        bad = list(_mutations(MUTATIONS_OVER_THE_WIRE, SEED + 1))
        codes = await asyncio.gather(
            *(
                code_of(image)
                for pair in zip(bad, [DIGIT] * len(bad), strict=True)
                for image in pair
            )
        )
    assert set(codes[1::2]) == {grpc.StatusCode.OK}
    assert set(codes[::2]) == {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}


async def test_a_hundred_reloads_under_load_fail_no_call(tmp_path: Path) -> None:
    save_brightness_model(tmp_path / "light.onnx")
    done = asyncio.Event()
    with running_server("--models", str(tmp_path)) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            classify: Any = pb_grpc.ClassifierStub(channel).Classify
            load: Any = channel.unary_unary("/inference.GRPCInferenceService/RepositoryModelLoad")
            request = inference_pb2.RepositoryModelLoadRequest(model_name="light")
            seen: list[str] = []

            async def call_until_done() -> None:
                while not done.is_set():
                    answer = await classify(pb.ClassifyRequest(image=grey_png(255), top_k=1))
                    seen.append(answer.predictions[0].label)

            callers = [asyncio.create_task(call_until_done()) for _ in range(4)]
            for number in range(100):
                fresh = tmp_path / "fresh"
                save_brightness_model(fresh, labels=[f"label {number}", "dark"])
                fresh.replace(tmp_path / "light.onnx")
                await load(request.SerializeToString())
            await asyncio.sleep(0.1)
            done.set()
            await asyncio.gather(*callers)  # raises what any call raised
    in_order = list(dict.fromkeys(seen))
    assert in_order == sorted(in_order, key=lambda label: int(label.partition(" ")[2] or -1))
    assert in_order[-1] == "label 99"
    assert len(in_order) > 10
