"""The asyncio client."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

import grpc

from convlens.client import messages
from convlens.client.connection import (
    DEFAULT_ADDRESS,
    DEFAULT_CONCURRENCY,
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT_SECONDS,
    Connection,
    Tls,
    aio_channel,
)
from convlens.client.errors import ClientError, ClosedError
from convlens.client.messages import (
    Classification,
    Metadata,
    ModelDescription,
    ModelSummary,
    Outcome,
)
from convlens.client.pictures import Picture, picture_bytes
from convlens.client.retry import Attempts, Retry
from convlens.client.window import ask_many_async
from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc as pb_grpc


class AsyncClient:
    """Classifies pictures with a convlens server from within an event loop.

    A call whose task is cancelled is cancelled on the server too. The arguments are those of
    `Client`.

    Example:
        >>> async with AsyncClient() as client:
        ...     print((await client.classify("cat.jpg")).label)
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        retries: int = DEFAULT_RETRIES,
        tls: Tls | None = None,
        token: str | None = None,
    ) -> None:
        self._address = address
        self._retry = Retry(retries, timeout_seconds)
        connection = Connection(address, tls, token)
        self._metadata = connection.metadata
        self._closed = False
        self._channel = aio_channel(connection)
        self._stub = pb_grpc.ClassifierStub(self._channel)

    async def classify(
        self, picture: Picture, *, model: str = "", version: str = "", top_k: int = 5
    ) -> Classification:
        """Classify one picture; see `Client.classify`."""
        image = picture
        if not isinstance(image, bytes):
            image = await asyncio.to_thread(picture_bytes, picture)
        request = messages.classify_request(model, version, image, top_k)
        return messages.classification(*await self._call(self._stub.Classify, request))

    async def classify_many(
        self,
        pictures: Iterable[Picture] | AsyncIterable[Picture],
        *,
        model: str = "",
        version: str = "",
        top_k: int = 5,
        concurrency: int = DEFAULT_CONCURRENCY,
        ordered: bool = True,
    ) -> AsyncGenerator[Outcome, None]:
        """Classify pictures as they come; see `Client.classify_many`.

        Args:
            pictures: may be an asynchronous iterator: then no answer waits for the next picture.
            model: see `Client.classify`, as for `version` and `top_k`.
            version: of the model.
            top_k: how many predictions a picture.
            concurrency: how many are in flight at a time.
            ordered: give the outcomes in the order of the pictures, or else as they come.
        """

        async def ask(index: int, picture: Picture) -> Outcome:
            answer: Classification | ClientError
            try:
                answer = await self.classify(picture, model=model, version=version, top_k=top_k)
            except ClientError as error:
                answer = error
            return Outcome(index, picture, answer)

        outcomes = ask_many_async(pictures, ask, concurrency=concurrency, ordered=ordered)
        async with aclosing(outcomes):
            async for outcome in outcomes:
                if isinstance(outcome.error, ClosedError):
                    raise outcome.error
                yield outcome

    async def list_models(self) -> tuple[ModelSummary, ...]:
        """Every version of every model that the server knows; see `Client.list_models`."""
        response, _ = await self._call(self._stub.ListModels, pb.ListModelsRequest())
        return messages.model_summaries(response)

    async def describe_model(self, model: str = "", version: str = "") -> ModelDescription:
        """All about one model; see `Client.describe_model`."""
        request = messages.describe_request(model, version)
        response, _ = await self._call(self._stub.DescribeModel, request)
        return messages.model_description(response)

    async def close(self) -> None:
        """Close the connection; calls in flight end with `ClosedError`, as any later ones do."""
        self._closed = True
        await self._channel.close()

    async def _call(self, method: Any, request: Any) -> tuple[Any, Metadata]:
        """The response and its trailers, after as many attempts as it takes."""
        attempts = Attempts(self._retry, self._address)
        while True:
            if self._closed:
                raise ClosedError
            call = method(request, timeout=attempts.remaining_seconds, metadata=self._metadata)
            try:
                return await call, await call.trailing_metadata()
            except grpc.aio.AioRpcError as error:
                if self._closed:
                    raise ClosedError from error
                await asyncio.sleep(attempts.pause_after(error))
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if not self._closed or (task is not None and task.cancelling()):
                    raise
                raise ClosedError from error  # the channel has cancelled the call, not its caller

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
