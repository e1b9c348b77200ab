"""What a load generator asks: requests that are serialised once and sent many times."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from convlens.client.connection import Connection, aio_channel
from convlens.client.errors import ClientError, from_rpc_error
from convlens.proto import classifier_pb2 as pb
from convlens.proto import inference_pb2

CLASSIFY = "/convlens.v1.Classifier/Classify"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
MODEL_METADATA = "/inference.GRPCInferenceService/ModelMetadata"
# Of a call before the load begins.
TIMEOUT_SECONDS = 60.0
# Bytes of one element.
ELEMENT_BYTES = {"FP64": 8, "FP32": 4, "FP16": 2, "BF16": 2} | {
    f"{sign}INT{bits}": bits // 8 for sign in ("", "U") for bits in (8, 16, 32, 64)
}


@dataclass(frozen=True)
class Target:
    """A method and the requests that are sent to it in turn.

    Attributes:
        method: as HTTP/2 carries it, "/package.Service/Method".
        requests: serialised.
        what: they are, in words.
    """

    method: str
    requests: tuple[bytes, ...]
    what: str


def picture_target(pictures: Sequence[bytes], model: str, version: str) -> Target:
    """Encoded pictures for `Classify`."""
    requests = tuple(
        pb.ClassifyRequest(model=model, version=version, image=image).SerializeToString()
        for image in pictures
    )
    mean_bytes = sum(map(len, pictures)) / len(pictures)
    return Target(CLASSIFY, requests, f"{len(pictures)} pictures of {mean_bytes / 1e3:,.1f} kB")


async def tensor_target(connection: Connection, model: str, version: str) -> Target:
    """One tensor of zeros for each of the model's inputs, for `ModelInfer`, batch size 1.

    Raises:
        ClientError: the server does not describe the model, or an input is not of numbers.
    """
    question = inference_pb2.ModelMetadataRequest(name=model, version=version)
    async with aio_channel(connection) as channel:
        describe: Any = channel.unary_unary(MODEL_METADATA)
        try:
            answer = await describe(
                question.SerializeToString(), timeout=TIMEOUT_SECONDS, metadata=connection.metadata
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, connection.address) from error
    metadata = inference_pb2.ModelMetadataResponse.FromString(answer)
    request = inference_pb2.ModelInferRequest(model_name=model, model_version=version)
    for tensor in metadata.inputs:
        shape = [max(1, size) for size in tensor.shape]
        if tensor.datatype not in ELEMENT_BYTES:
            text = f"input {tensor.name!r} is of {tensor.datatype}, not of numbers"
            raise ClientError("INVALID_ARGUMENT", text)
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
        raw_bytes = math.prod(shape) * ELEMENT_BYTES[tensor.datatype]
        request.raw_input_contents.append(bytes(raw_bytes))
    serialised = request.SerializeToString()
    return Target(MODEL_INFER, (serialised,), f"tensors of {len(serialised) / 1e3:,.1f} kB")
