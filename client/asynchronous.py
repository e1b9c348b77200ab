"""The asyncio client."""

from types import TracebackType
from typing import Self

import grpc

from convlens.client import messages
from convlens.client.blocking import CHANNEL_OPTIONS, DEFAULT_ADDRESS
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
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, *, timeout_seconds: float = 30.0) -> None:
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub = pb_grpc.ClassifierStub(self._channel)

    async def classify(
        self, picture: Picture, *, model: str = "", version: str = "", top_k: int = 5
    ) -> Classification:
        """Classify one picture; see `Client.classify`."""
        request = pb.ClassifyRequest(
            model=model, version=version, image=messages.picture_bytes(picture), top_k=top_k
        )
        call = self._stub.Classify(request, timeout=self._timeout_seconds)
        try:
            response = await call
            trailers = await call.trailing_metadata()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self._address) from error
        return messages.classification(response, trailers)

    async def list_models(self) -> tuple[ModelSummary, ...]:
        """Every version of every model that the server knows; see `Client.list_models`."""
        try:
            response = await self._stub.ListModels(
                pb.ListModelsRequest(), timeout=self._timeout_seconds
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self._address) from error
        return tuple(messages.model_summary(entry) for entry in response.models)

    async def describe_model(self, model: str = "", version: str = "") -> ModelDescription:
        """All about one model; see `Client.describe_model`."""
        request = pb.DescribeModelRequest(model=model, version=version)
        try:
            response = await self._stub.DescribeModel(request, timeout=self._timeout_seconds)
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
