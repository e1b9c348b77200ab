"""Requests and answers of the Open Inference Protocol, as plain numpy arrays."""

from typing import Any

import grpc
import numpy as np
import pytest

from convlens.proto import inference_pb2 as pb
from convlens.proto import inference_pb2_grpc as pb_grpc
from convlens.server.tensor import DTYPES

Array = Any
Stub = pb_grpc.GRPCInferenceServiceStub

# Extreme values of each datatype, by the name of its input in `graphs.save_types`, and the field
# of typed contents.
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


def _raw(values: Array, datatype: str) -> bytes:
    if datatype == "BYTES":
        return b"".join(len(value).to_bytes(4, "little") + value for value in values.flat)
    raw: bytes = values.tobytes()
    return raw


def raw_request(model: str, /, **inputs: tuple[str, Array]) -> pb.ModelInferRequest:
    """A request with raw contents; an input is given as (datatype, values)."""
    request = pb.ModelInferRequest(model_name=model)
    for name, (datatype, values) in inputs.items():
        request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        request.raw_input_contents.append(_raw(values, datatype))
    return request


def typed_request(model: str, /, **inputs: tuple[str, Array, str]) -> pb.ModelInferRequest:
    """A request with typed contents; an input is given as (datatype, values, field)."""
    request = pb.ModelInferRequest(model_name=model)
    for name, (datatype, values, field) in inputs.items():
        entry = request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        getattr(entry.contents, field).extend(values.flat)
    return request


def picture_request(model: str, *pictures: bytes) -> pb.ModelInferRequest:
    return raw_request(model, image=("BYTES", np.array(pictures, object)))


def outputs_of(response: pb.ModelInferResponse) -> dict[str, Array]:
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


def one_row(*values: float) -> Array:
    return np.array([values], np.float32)


def refusal(stub: Stub, request: pb.ModelInferRequest) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request)
    return caught.value.code(), caught.value.details() or ""
