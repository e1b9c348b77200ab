"""The asyncio client."""

from types import TracebackType
from typing import Self

import grpc

from convlens.client import messages
from convlens.client.connection import (
    CHANNEL_OPTIONS,
    DEFAULT_ADDRESS,
    CallOptions,
    Tls,
    call_metadata,
)
from convlens.client.errors import from_rpc_error
from convlens.client.messages import Classification, ModelDescription, ModelSummary, Picture
from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc as pb_grpc


class AsyncClient:
    """Classifies pictures with a convlens server from within an event loop.

    A call whose task is cancelled is cancelled on the server too.

    Args:
        address: of the server, "host:port".
        timeout_seconds: for each call; the server drops what it cannot answer in time.
        tls: the certificates of an encrypted connection; None for a plain one.
        token: that opens the server, where it asks for one.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_seconds: float = 30.0,
        tls: Tls | None = None,
        token: str | None = None,
    ) -> None:
        self._address = address
        self._call: CallOptions = {"timeout": timeout_seconds, "metadata": call_metadata(token)}
        if tls is None:
            self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, tls.credentials(), CHANNEL_OPTIONS)
        self._stub = pb_grpc.ClassifierStub(self._channel)

    async def classify(
        self, picture: Picture, *, model: str = "", version: str = "", top_k: int = 5
    ) -> Classification:
        """Classify one picture; see `Client.classify`."""
        request = pb.ClassifyRequest(
            model=model, version=version, image=messages.picture_bytes(picture), top_k=top_k
        )
        call = self._stub.Classify(request, **self._call)
        try:
            response = await call
            trailers = await call.trailing_metadata()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self._address) from error
        return messages.classification(response, trailers)

    async def list_models(self) -> tuple[ModelSummary, ...]:
        """Every version of every model that the server knows; see `Client.list_models`."""
        try:
            response = await self._stub.ListModels(pb.ListModelsRequest(), **self._call)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self._address) from error
        return tuple(messages.model_summary(entry) for entry in response.models)

    async def describe_model(self, model: str = "", version: str = "") -> ModelDescription:
        """All about one model; see `Client.describe_model`."""
        request = pb.DescribeModelRequest(model=model, version=version)
        try:
            response = await self._stub.DescribeModel(request, **self._call)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self._address) from error
        return messages.model_description(response)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
