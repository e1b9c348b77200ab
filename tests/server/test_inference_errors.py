"""A wrong request of the Open Inference Protocol is told what was given and what is needed."""

from typing import Any

import grpc
import numpy as np
import pytest

from convlens.proto import inference_pb2 as pb
from tests.server.tensors import TYPES, Stub, one_row, raw_request, refusal, typed_request
from tests.support import grey_png


def _mixed() -> pb.ModelInferRequest:
    request = raw_request("two", left=("FP32", one_row(1, 2, 3)), right=("FP32", one_row(1, 2, 3)))
    request.inputs[1].contents.fp32_contents.extend([1, 2, 3])
    return request


def _edited(field: str, value: Any) -> pb.ModelInferRequest:
    """A right request with one entry of its only input, or its raw contents, replaced."""
    request = raw_request("embedding", ids=("INT64", np.array([[1, 2]])))
    if field == "raw":
        request.raw_input_contents[:] = value
    elif field == "shape":
        request.inputs[0].shape[:] = value
    else:
        setattr(request.inputs[0], field, value)
    return request


def _vast() -> pb.ModelInferRequest:
    request = _edited("shape", [2**62, 2**62, 0, 1])
    request.raw_input_contents[:] = [b""]
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


THREE = ("FP32", one_row(1, 2, 3))

WRONG = {
    "another datatype": (
        raw_request("two", left=("FP16", one_row(1, 2, 3).astype(np.float16)), right=THREE),
        "input 'left' is FP16 [1, 3]; the model takes FP32 [-1, 3]",
    ),
    "bfloat16": (
        raw_request("two", left=("BF16", np.array([[1, 2, 3]], np.uint16)), right=THREE),
        "input 'left' is BF16 [1, 3]; the model takes FP32 [-1, 3]",
    ),
    "another shape": (
        raw_request("two", left=("FP32", one_row(1, 2)), right=THREE),
        "input 'left' is FP32 [1, 2]; the model takes FP32 [-1, 3]",
    ),
    "another rank": (
        raw_request("two", left=("FP32", one_row(1, 2, 3)[0]), right=THREE),
        "input 'left' is FP32 [3]; the model takes FP32 [-1, 3]",
    ),
    "batches that differ": (
        raw_request("two", left=("FP32", np.ones((2, 3), np.float32)), right=THREE),
        "the inputs have [2, 1] rows; all need the same number, at least 1",
    ),
    "an empty batch": (
        raw_request("embedding", ids=("INT64", np.zeros((0, 2), np.int64))),
        "the inputs have [0] rows; all need the same number, at least 1",
    ),
    "an unknown input": (
        _edited("name", "idz"),
        "there is no input 'idz'; the model takes 'ids' INT64 [-1, -1]",
    ),
    "a missing input": (
        raw_request("two", left=THREE),
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
    "a shape whose product overflows": (
        _vast(),
        f"input 'ids' has 4 axes, the longest of {2**62}: no array can have that shape",
    ),
    "too many axes": (
        _edited("shape", [1] * 99 + [2]),
        "input 'ids' has 100 axes; no array has more than 64",
    ),
    "a shape whose product would keep the server busy": (
        _edited("shape", [2**62] * 100_000),
        "input 'ids' has 100000 axes; no array has more than 64",
    ),
    "no contents": (_edited("raw", []), "input 'ids' has 0 elements; INT64 [1, 2] needs 2"),
    "contents of another type": (
        typed_request("embedding", ids=("INT64", np.array([[1, 2]]), "int_contents")),
        "input 'ids' has int_contents; INT64 needs int64_contents",
    ),
    "an element beyond its type": (
        typed_request("types", int8=("INT8", np.array([1, 128]), "int_contents")),
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
        raw_request(
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
        raw_request("embedding", ids=("INT64", np.zeros((257, 1), np.int64))),
        "257 rows in one request; at most 256 may be in flight",
    ),
}


@pytest.mark.parametrize(("request_", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_told_what_was_given_and_what_is_needed(
    stub: Stub, request_: pb.ModelInferRequest, said: str
) -> None:
    code, message = refusal(stub, request_)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith(said)


def test_an_unknown_model_is_not_found_and_a_broken_one_says_why(stub: Stub) -> None:
    code, message = refusal(stub, raw_request("nobody", input=THREE))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "there are brightness, broken, embedding" in message
    code, message = refusal(stub, raw_request("broken", input=THREE))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "broken.onnx" in message


def test_an_index_out_of_range_shows_an_id_and_no_detail(stub: Stub) -> None:
    code, message = refusal(stub, raw_request("embedding", ids=("INT64", np.array([[9]]))))
    assert code is grpc.StatusCode.INTERNAL
    assert message.startswith("internal error; the server's log has the details under ")
