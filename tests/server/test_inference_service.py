"""`inference.GRPCInferenceService` over a real socket, called with the protocol's own messages."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import onnxruntime
import pytest
from google.rpc import error_details_pb2, status_pb2

from convlens.client import Client
from convlens.proto import inference_pb2 as pb
from convlens.proto import inference_pb2_grpc as pb_grpc
from convlens.server.tensor import DTYPES
from tests.server.graphs import (
    save_embedding,
    save_liar,
    save_total,
    save_two_inputs,
    save_types,
    save_zeros_fail,
)
from tests.support import (
    BUNDLED,
    DIGITS,
    RunningServer,
    grey_png,
    running_server,
    save_brightness_model,
)

Array = Any
Stub = pb_grpc.GRPCInferenceServiceStub


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with models of tensors, and one of pictures whose labels have colons."""
    models = tmp_path_factory.mktemp("tensor-models")
    save_two_inputs(models / "two.onnx")
    save_embedding(models / "embedding.onnx")
    save_types(models / "types.onnx")
    save_total(models / "total.onnx")
    save_liar(models / "liar.onnx")
    save_zeros_fail(models / "zeros_fail.onnx")
    save_brightness_model(models / "brightness.onnx", labels=["day: bright", "night: dark"])
    (models / "broken.onnx").write_bytes(b"\x08\x08not a model")
    with running_server("--models", str(models), "--max-batch-size", "4") as running:
        yield running


@pytest.fixture(scope="module")
def stub(server: RunningServer) -> Iterator[Stub]:
    with grpc.insecure_channel(server.address) as channel:
        yield Stub(channel)


@pytest.fixture(scope="module")
def lenet5(lenet5_server: RunningServer) -> Iterator[Stub]:
    with grpc.insecure_channel(lenet5_server.address) as channel:
        yield Stub(channel)


def _raw(values: Array, datatype: str) -> bytes:
    if datatype == "BYTES":
        return b"".join(len(value).to_bytes(4, "little") + value for value in values.flat)
    raw: bytes = values.tobytes()
    return raw


def _request(model: str, /, **inputs: tuple[str, Array]) -> pb.ModelInferRequest:
    """A request with raw contents; an input is given as (datatype, values)."""
    request = pb.ModelInferRequest(model_name=model)
    for name, (datatype, values) in inputs.items():
        request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        request.raw_input_contents.append(_raw(values, datatype))
    return request


def _typed_request(model: str, /, **inputs: tuple[str, Array, str]) -> pb.ModelInferRequest:
    """A request with typed contents; an input is given as (datatype, values, field)."""
    request = pb.ModelInferRequest(model_name=model)
    for name, (datatype, values, field) in inputs.items():
        entry = request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        getattr(entry.contents, field).extend(values.flat)
    return request


def _pictures(model: str, *pictures: bytes) -> pb.ModelInferRequest:
    return _request(model, image=("BYTES", np.array(pictures, object)))


def _outputs(response: pb.ModelInferResponse) -> dict[str, Array]:
    outputs = {}
    for entry, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        if entry.datatype == "BYTES":
            values: list[bytes] = []
            while raw:
                end = 4 + int.from_bytes(raw[:4], "little")
                values.append(raw[4:end])
                raw = raw[end:]
            array = np.array(values, object)
        else:
            array = np.frombuffer(raw, DTYPES[entry.datatype])
        outputs[entry.name] = array.reshape(tuple(entry.shape))
    return outputs


def _digits(count: int) -> Array:
    return np.random.RandomState(0).standard_normal((count, 1, 32, 32)).astype(np.float32)


def _row(*values: float) -> Array:
    return np.array([values], np.float32)


def _logits(batch: Array) -> Array:
    session = onnxruntime.InferenceSession(BUNDLED, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": batch})[0]


def _refusal(stub: Stub, request: pb.ModelInferRequest) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request)
    return caught.value.code(), caught.value.details() or ""


# What a model takes and gives


def test_the_answer_is_what_onnxruntime_computes(lenet5: Stub) -> None:
    batch = _digits(3)
    request = _request("lenet5", input=("FP32", batch))
    request.id = "mine"
    response = lenet5.ModelInfer(request)
    assert (response.model_name, response.model_version, response.id) == ("lenet5", "1", "mine")
    np.testing.assert_allclose(_outputs(response)["logits"], _logits(batch), atol=1e-5)


def test_typed_contents_are_answered_as_raw_ones(lenet5: Stub) -> None:
    batch = _digits(2)
    raw = lenet5.ModelInfer(_request("lenet5", input=("FP32", batch)))
    typed = lenet5.ModelInfer(_typed_request("lenet5", input=("FP32", batch, "fp32_contents")))
    np.testing.assert_array_equal(_outputs(typed)["logits"], _outputs(raw)["logits"])


def test_several_inputs_and_outputs_and_those_that_are_asked_for(stub: Stub) -> None:
    request = _request("two", right=("FP32", _row(4, 5, 6)), left=("FP32", _row(1, 2, 3)))
    outputs = _outputs(stub.ModelInfer(request))
    assert list(outputs) == ["sum", "product"]
    np.testing.assert_array_equal(outputs["sum"], _row(5, 7, 9))
    np.testing.assert_array_equal(outputs["product"], _row(4, 10, 18))
    request.outputs.add(name="product")
    assert list(_outputs(stub.ModelInfer(request))) == ["product"]


TYPES: dict[str, tuple[Array, str | None]] = {
    "bool": (np.array([True, False]), "bool_contents"),
    "uint8": (np.array([0, 255], np.uint8), "uint_contents"),
    "uint16": (np.array([0, 65535], np.uint16), "uint_contents"),
    "uint32": (np.array([0, 2**32 - 1], np.uint32), "uint_contents"),
    "uint64": (np.array([0, 2**64 - 1], np.uint64), "uint64_contents"),
    "int8": (np.array([-128, 127], np.int8), "int_contents"),
    "int16": (np.array([-32768, 32767], np.int16), "int_contents"),
    "int32": (np.array([-(2**31), 2**31 - 1], np.int32), "int_contents"),
    "int64": (np.array([-(2**63), 2**63 - 1], np.int64), "int64_contents"),
    "fp16": (np.array([0.5, -1.0], np.float16), None),
    "fp32": (np.array([0.1, -1.0], np.float32), "fp32_contents"),
    "fp64": (np.array([0.1, -1.0], np.float64), "fp64_contents"),
    "bytes": (np.array([b"", "gr\u00fc\u00df\0".encode()], object), "bytes_contents"),
}


def test_every_datatype_comes_back_as_it_was_sent(stub: Stub) -> None:
    inputs = {name: (name.upper(), values) for name, (values, _) in TYPES.items()}
    outputs = _outputs(stub.ModelInfer(_request("types", **inputs)))
    for name, (values, _) in TYPES.items():
        np.testing.assert_array_equal(outputs[f"{name}_out"], values)
        assert outputs[f"{name}_out"].dtype == values.dtype


def test_every_datatype_but_fp16_has_typed_contents(stub: Stub) -> None:
    request = pb.ModelInferRequest(model_name="types")
    for name, (values, field) in TYPES.items():
        entry = request.inputs.add(name=name, datatype=name.upper(), shape=values.shape)
        getattr(entry.contents, field or "fp32_contents").extend(values.flat)
    code, message = _refusal(stub, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message == "input 'fp16': FP16 has no typed contents; send it in raw_input_contents"
    fields = {entry.name: entry for entry in request.inputs}
    fields["fp16"].CopyFrom(fields["fp32"])
    code, message = _refusal(stub, request)
    assert message == "input 'fp32' is there twice"  # all of the others could be read


def test_a_model_without_a_batch_axis_is_served_request_by_request(stub: Stub) -> None:
    response = stub.ModelInfer(_request("total", values=("FP32", np.ones((5, 2), np.float32))))
    assert list(response.outputs[0].shape) == []
    assert _outputs(response)["total"] == 10.0


def test_a_model_that_cannot_run_on_zeros_is_served(stub: Stub) -> None:
    response = stub.ModelInfer(_request("zeros_fail", id=("INT64", np.array([10]))))
    np.testing.assert_array_equal(_outputs(response)["row"], _row(1, 2))


# Pictures


def test_pictures_as_bytes_are_preprocessed_as_classify_does_it(
    lenet5_server: RunningServer,
) -> None:
    pictures = [path.read_bytes() for path in DIGITS]
    with (
        Client(lenet5_server.address) as client,
        grpc.insecure_channel(lenet5_server.address) as channel,
    ):
        logits = _outputs(Stub(channel).ModelInfer(_pictures("lenet5", *pictures)))["logits"]
        assert logits.shape == (20, 10)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        for picture, row in zip(pictures, probabilities, strict=True):
            first = client.classify(picture).predictions[0]
            assert row.argmax() == first.index
            assert row.max() == pytest.approx(first.probability, abs=1e-5)


def test_a_bad_picture_fails_the_request_and_is_named(stub: Stub) -> None:
    request = _pictures("brightness", grey_png(1), b"no picture", b"")
    code, message = _refusal(stub, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith("picture 1: the 10 bytes are not a picture")


def test_pictures_for_a_model_of_tensors_are_refused(stub: Stub) -> None:
    code, message = _refusal(stub, _pictures("two", grey_png(1)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "takes tensors, not pictures" in message


def test_no_pictures_or_pictures_of_another_shape_are_refused(stub: Stub) -> None:
    for pictures in (np.array([], object), np.array([[grey_png(1)]], object)):
        code, message = _refusal(stub, _request("brightness", image=("BYTES", pictures)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "pictures come as 'image' alone, BYTES [n], at least one" in message


# The classification extension


def test_classification_names_the_highest_values_without_softmax(stub: Stub) -> None:
    request = _pictures("brightness", grey_png(255), grey_png(0))
    output = request.outputs.add(name="logits")
    for k, expected in (
        (1, [[b"10.000000:0:day- bright"], [b"10.000000:1:night- dark"]]),
        (
            99,
            [
                [b"10.000000:0:day- bright", b"-10.000000:1:night- dark"],
                [b"10.000000:1:night- dark", b"-10.000000:0:day- bright"],
            ],
        ),
    ):
        output.parameters["classification"].int64_param = k
        response = stub.ModelInfer(request)
        assert response.outputs[0].datatype == "BYTES"
        assert _outputs(response)["logits"].tolist() == expected


def test_classification_without_labels_gives_value_and_index(stub: Stub) -> None:
    request = _request("two", left=("FP32", _row(1, 3, 2)), right=("FP32", _row(0, 0, 0)))
    request.outputs.add(name="sum").parameters["classification"].int64_param = 2
    assert _outputs(stub.ModelInfer(request))["sum"].tolist() == [[b"3.000000:1", b"2.000000:2"]]


def test_classification_of_what_has_no_classes_is_refused(stub: Stub) -> None:
    request = _request("total", values=("FP32", np.ones((1, 2), np.float32)))
    output = request.outputs.add(name="total")
    output.parameters["classification"].int64_param = 1
    assert "needs numbers of shape [batch, classes]" in _refusal(stub, request)[1]
    output.parameters["classification"].string_param = "1"
    assert "needs an int64_param" in _refusal(stub, request)[1]


# Wrong requests


def _mixed() -> pb.ModelInferRequest:
    request = _request("two", left=("FP32", _row(1, 2, 3)), right=("FP32", _row(1, 2, 3)))
    request.inputs[1].contents.fp32_contents.extend([1, 2, 3])
    return request


def _edited(field: str, value: Any) -> pb.ModelInferRequest:
    """A right request with one entry of its only input, or its raw contents, replaced."""
    request = _request("embedding", ids=("INT64", np.array([[1, 2]])))
    if field == "raw":
        request.raw_input_contents[:] = value
    elif field == "shape":
        request.inputs[0].shape[:] = value
    else:
        setattr(request.inputs[0], field, value)
    return request


def _with_parameter(where: str) -> pb.ModelInferRequest:
    request = _edited("name", "ids")
    holder = request.inputs[0] if where == "input" else request.outputs.add(name="rows")
    holder.parameters["shared_memory_region"].string_param = "region"
    return request


def _asking_for(name: str) -> pb.ModelInferRequest:
    request = _edited("name", "ids")
    request.outputs.add(name=name)
    return request


THREE = ("FP32", _row(1, 2, 3))

WRONG = {
    "another datatype": (
        _request("two", left=("FP16", _row(1, 2, 3).astype(np.float16)), right=THREE),
        "input 'left' is FP16 [1, 3]; the model takes FP32 [-1, 3]",
    ),
    "bfloat16": (
        _request("two", left=("BF16", np.array([[1, 2, 3]], np.uint16)), right=THREE),
        "input 'left' is BF16 [1, 3]; the model takes FP32 [-1, 3]",
    ),
    "another shape": (
        _request("two", left=("FP32", _row(1, 2)), right=THREE),
        "input 'left' is FP32 [1, 2]; the model takes FP32 [-1, 3]",
    ),
    "another rank": (
        _request("two", left=("FP32", _row(1, 2, 3)[0]), right=THREE),
        "input 'left' is FP32 [3]; the model takes FP32 [-1, 3]",
    ),
    "batches that differ": (
        _request("two", left=("FP32", np.ones((2, 3), np.float32)), right=THREE),
        "the inputs have [2, 1] rows; all need the same number, at least 1",
    ),
    "an empty batch": (
        _request("embedding", ids=("INT64", np.zeros((0, 2), np.int64))),
        "the inputs have [0] rows; all need the same number, at least 1",
    ),
    "an unknown input": (
        _edited("name", "idz"),
        "there is no input 'idz'; the model takes 'ids' INT64 [-1, -1]",
    ),
    "a missing input": (
        _request("two", left=THREE),
        "input 'right' is missing; the model takes 'left' FP32 [-1, 3], 'right' FP32 [-1, 3]",
    ),
    "an unknown output": (_asking_for("row"), "there is no output 'row'; there are ['rows']"),
    "an unknown datatype": (
        _edited("datatype", "INT65"),
        "input 'ids' has datatype 'INT65'; there are BOOL,",
    ),
    "a negative length": (
        _edited("shape", [-1, 2]),
        "input 'ids' has shape [-1, 2]; no length may be negative",
    ),
    "short raw contents": (
        _edited("raw", [bytes(15)]),
        "input 'ids' has 15 bytes of raw contents; INT64 [1, 2] needs 16",
    ),
    "long raw contents": (
        _edited("raw", [bytes(24)]),
        "input 'ids' has 24 bytes of raw contents; INT64 [1, 2] needs 16",
    ),
    "too many raw contents": (
        _edited("raw", [bytes(16)] * 2),
        "raw_input_contents has 2 entries for 1 inputs",
    ),
    "mixed contents": (_mixed(), "raw_input_contents and typed contents are mixed"),
    "no contents": (_edited("raw", []), "input 'ids' has 0 elements; INT64 [1, 2] needs 2"),
    "contents of another type": (
        _typed_request("embedding", ids=("INT64", np.array([[1, 2]]), "int_contents")),
        "input 'ids' has int_contents; INT64 needs int64_contents",
    ),
    "an element beyond its type": (
        _typed_request("types", int8=("INT8", np.array([1, 128]), "int_contents")),
        "input 'int8' has an element beyond INT8",
    ),
    "bytes without lengths": (
        pb.ModelInferRequest(
            model_name="brightness",
            inputs=[
                pb.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1])
            ],
            raw_input_contents=[grey_png(1)],
        ),
        "input 'image': its raw contents end within an element",
    ),
    "text that is no UTF-8": (
        _request(
            "types",
            **{
                name: (
                    name.upper(),
                    values if name != "bytes" else np.array([b"", b"\xff"], object),
                )
                for name, (values, _) in TYPES.items()
            },
        ),
        "input 'bytes' takes text in UTF-8",
    ),
    "an input in shared memory": (_with_parameter("input"), "input 'ids' is in shared memory"),
    "an output in shared memory": (
        _with_parameter("output"),
        "output 'rows' is wanted in shared memory",
    ),
    "more rows than may be in flight": (
        _request("embedding", ids=("INT64", np.zeros((257, 1), np.int64))),
        "257 rows in one request; at most 256 may be in flight",
    ),
}


@pytest.mark.parametrize(("request_", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_told_what_was_given_and_what_is_needed(
    stub: Stub, request_: pb.ModelInferRequest, said: str
) -> None:
    code, message = _refusal(stub, request_)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith(said)


def test_an_unknown_model_is_not_found_and_a_broken_one_says_why(stub: Stub) -> None:
    code, message = _refusal(stub, _request("nobody", input=THREE))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "there are brightness, broken, embedding" in message
    code, message = _refusal(stub, _request("broken", input=THREE))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "broken.onnx" in message


def test_an_index_out_of_range_shows_an_id_and_no_detail(stub: Stub) -> None:
    code, message = _refusal(stub, _request("embedding", ids=("INT64", np.array([[9]]))))
    assert code is grpc.StatusCode.INTERNAL
    assert message.startswith("internal error; the server's log has the details under ")


# Batches, queues, deadlines


def test_more_rows_than_a_batch_has_come_back_together(stub: Stub, server: RunningServer) -> None:
    ids = np.arange(22).reshape(11, 2) % 4
    rows = _outputs(stub.ModelInfer(_request("embedding", ids=("INT64", ids))))["rows"]
    np.testing.assert_array_equal(rows, np.arange(8, dtype=np.float32).reshape(4, 2)[ids])
    largest = server.metric('convlens_batch_size_bucket{le="4.0",model="embedding",version="1"}')
    assert largest == server.metric('convlens_batch_size_count{model="embedding",version="1"}')


def test_callers_with_rows_of_several_shapes_get_their_own_rows(stub: Stub) -> None:
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    random = np.random.RandomState(0)
    requests = [
        random.randint(0, 4, (random.randint(1, 4), random.randint(1, 4))) for _ in range(300)
    ]
    with ThreadPoolExecutor(24) as threads:
        answers = threads.map(
            lambda ids: stub.ModelInfer(_request("embedding", ids=("INT64", ids))), requests
        )
        for ids, answer in zip(requests, answers, strict=True):
            np.testing.assert_array_equal(_outputs(answer)["rows"], table[ids])


def test_a_request_that_the_model_cannot_digest_fails_alone(stub: Stub) -> None:
    def call(ids: Array) -> Any:
        try:
            return stub.ModelInfer(_request("embedding", ids=("INT64", ids)))
        except grpc.RpcError as error:
            return error.code()

    requests = [np.array([[9 if index % 25 == 0 else 1]]) for index in range(100)]
    with ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(call, requests))
    failed = [index for index, answer in enumerate(answers) if answer is grpc.StatusCode.INTERNAL]
    assert failed == [0, 25, 50, 75]
    assert all(
        isinstance(answer, pb.ModelInferResponse)
        for index, answer in enumerate(answers)
        if index % 25
    )


def test_a_model_that_breaks_its_promise_of_a_batch_answers_each_request_alone(stub: Stub) -> None:
    def call(value: int) -> float:
        request = _request("liar", values=("FP32", _row(value, 0)))
        return float(_outputs(stub.ModelInfer(request))["sums"][0, 0])

    with ThreadPoolExecutor(24) as threads:
        assert list(threads.map(call, range(200))) == list(range(200))


def _slow(rows: int = 1) -> pb.ModelInferRequest:
    return _request("slow", input=("FP32", np.zeros((rows, 1, 32, 32), np.float32)))


IN_FLIGHT = 'convlens_in_flight{model="slow",version="1"}'
INFERRED = 'convlens_stage_seconds_count{model="slow",stage="infer",version="1"}'


async def test_each_row_takes_a_place_and_a_full_queue_refuses(slow_server: RunningServer) -> None:
    async with grpc.aio.insecure_channel(slow_server.address) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        first = asyncio.ensure_future(stub.ModelInfer(_slow(rows=3)))
        await asyncio.to_thread(slow_server.wait_for_metric, IN_FLIGHT, lambda value: value == 3)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(_slow(rows=2))  # there are 4 places
        assert len(_outputs(await first)["logits"]) == 3
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() > 0


@pytest.mark.parametrize("means", ["deadline", "parameter", "cancel"])
async def test_what_nobody_waits_for_any_more_costs_no_inference(
    slow_server: RunningServer, means: str
) -> None:
    before = slow_server.metric(INFERRED)
    async with grpc.aio.insecure_channel(slow_server.address) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        first = asyncio.ensure_future(stub.ModelInfer(_slow()))
        await asyncio.to_thread(slow_server.wait_for_metric, IN_FLIGHT, lambda value: value == 1)
        request = _slow()
        if means == "parameter":
            request.parameters["timeout"].int64_param = 10_000
        call = stub.ModelInfer(request, timeout=0.05 if means == "deadline" else None)
        if means == "cancel":
            await asyncio.to_thread(
                slow_server.wait_for_metric, IN_FLIGHT, lambda value: value == 2
            )
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        else:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await first
    slow_server.wait_for_metric(IN_FLIGHT, lambda value: value == 0)
    assert slow_server.metric(INFERRED) - before == 1


# Streams


async def test_a_stream_answers_in_order_and_goes_on_after_an_error(server: RunningServer) -> None:
    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        for index in range(60):
            request = _request("embedding", ids=("INT64", np.array([[index % 4]])))
            if index % 7 == 3:
                request = _request("nobody", input=THREE)
            request.id = str(index)
            yield request

    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        answers = [answer async for answer in stub.ModelStreamInfer(requests())]
    assert [answer.infer_response.id for answer in answers] == [str(n) for n in range(60)]
    for index, answer in enumerate(answers):
        if index % 7 == 3:
            assert answer.error_message.startswith("no model 'nobody': there are brightness")
            assert not answer.infer_response.outputs
        else:
            assert answer.error_message == ""
            assert answer.infer_response.parameters["triton_final_response"].bool_param
            assert _outputs(answer.infer_response)["rows"][0, 0, 0] == index % 4 * 2


async def test_a_full_queue_makes_a_stream_wait_and_its_end_leaves_nothing_in_flight(
    slow_server: RunningServer,
) -> None:
    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        for _ in range(8):  # there are 4 places
            yield _slow()

    async with grpc.aio.insecure_channel(slow_server.address) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        answers = [answer async for answer in stub.ModelStreamInfer(requests())]
        assert [answer.error_message for answer in answers] == [""] * 8
        call = stub.ModelStreamInfer(requests())
        await anext(aiter(call))
        call.cancel()
    slow_server.wait_for_metric(IN_FLIGHT, lambda value: value == 0)


# What the server says of itself


def test_health_says_what_is_ready_and_an_unknown_model_is_not(stub: Stub) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    ready = {
        (name, version): stub.ModelReady(pb.ModelReadyRequest(name=name, version=version)).ready
        for name, version in itertools.product(("two", "broken", "nobody"), ("", "1", "2"))
    }
    assert {key for key, value in ready.items() if value} == {("two", ""), ("two", "1")}


def test_metadata_has_names_datatypes_and_shapes(stub: Stub) -> None:
    about = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert about.name == "convlens"
    assert about.extensions == ["classification", "model_configuration", "statistics"]
    model = stub.ModelMetadata(pb.ModelMetadataRequest(name="embedding"))
    assert model.name == "embedding"
    assert model.versions == ["1"]
    tensor = pb.ModelMetadataResponse.TensorMetadata
    assert model.inputs == [tensor(name="ids", datatype="INT64", shape=[-1, -1])]
    assert model.outputs == [tensor(name="rows", datatype="FP32", shape=[-1, -1, 2])]
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelMetadata(pb.ModelMetadataRequest(name="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_configuration_tells_whether_requests_share_runs(stub: Stub) -> None:
    pictures = stub.ModelConfig(pb.ModelConfigRequest(name="brightness")).config
    assert pictures.max_batch_size == 4
    assert pictures.HasField("dynamic_batching")
    assert pictures.input[0].dims == [1, 32, 32]
    assert pictures.input[0].format == pb.ModelInput.FORMAT_NCHW
    assert pictures.parameters["pictures"].string_value == "image"
    total = stub.ModelConfig(pb.ModelConfigRequest(name="total")).config
    assert total.max_batch_size == 0
    assert not total.HasField("dynamic_batching")
    assert total.input[0].dims == [-1, 2]
    assert total.input[0].data_type == pb.TYPE_FP32


def test_the_index_lists_every_version_or_those_that_are_ready(stub: Stub) -> None:
    entries = stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
    states = {entry.name: entry.state for entry in entries}
    assert states.pop("broken") == "UNAVAILABLE"
    assert set(states.values()) == {"READY"}
    assert "broken.onnx" in next(entry.reason for entry in entries if entry.name == "broken")
    ready = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models
    assert {entry.name for entry in ready} == states.keys()


def test_statistics_count_requests_rows_and_runs(tmp_path: Any) -> None:
    save_brightness_model(tmp_path / "brightness.onnx")
    with (
        running_server("--models", str(tmp_path)) as server,
        grpc.insecure_channel(server.address) as channel,
        Client(server.address) as client,
    ):
        stub = Stub(channel)

        def counted() -> pb.ModelStatistics:
            request = pb.ModelStatisticsRequest(name="brightness")
            return stub.ModelStatistics(request).model_stats[0]

        assert (counted().inference_count, counted().last_inference) == (0, 0)
        for _ in range(2):
            stub.ModelInfer(_pictures("brightness", *[grey_png(1)] * 3))
        client.classify(grey_png(1))
        _refusal(stub, _pictures("brightness", b"no picture"))
        after = counted()
        everything = stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelStatistics(pb.ModelStatisticsRequest(name="brightness", version="2"))
        page = server.page("/metrics")
    stats = after.inference_stats
    assert (after.inference_count, after.execution_count) == (7, 3)
    assert (stats.success.count, stats.fail.count) == (3, 1)
    parts = (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
    assert [part.count for part in parts] == [3] * 4
    assert 0 < sum(part.ns for part in parts) <= stats.success.ns
    assert {entry.batch_size: entry.compute_infer.count for entry in after.batch_stats} == {
        1: 1,
        3: 2,
    }
    assert after.last_inference > 1_700_000_000_000
    assert list(everything) == [after]
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    labels = 'model="brightness",stage="%s",version="1"'
    for stage in ("decode", "queue", "infer", "encode", "total"):
        assert f"convlens_stage_seconds_count{{{labels % stage}}} 7.0" in page
    assert 'grpc_method="ModelInfer",grpc_service="inference.GRPCInferenceService"' in page


def test_the_trailers_tell_what_an_answer_cost(lenet5: Stub) -> None:
    _, call = lenet5.ModelInfer.with_call(_request("lenet5", input=("FP32", _digits(2))))
    trailers = dict(call.trailing_metadata() or ())
    assert trailers["convlens-batch-size"] == "2"
    assert int(trailers["convlens-infer-us"]) > 0
    assert trailers["convlens-weights-origin"] == "trained"


def test_loading_and_unloading_are_not_offered(stub: Stub) -> None:
    for call in (
        lambda: stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="two")),
        lambda: stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="two")),
    ):
        with pytest.raises(grpc.RpcError, match="this server") as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
