"""The blocking client."""

import threading
from collections.abc import Generator, Iterable
from contextlib import closing
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
    channel,
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
from convlens.client.window import ask_many
from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc as pb_grpc


class Client:
    """Classifies pictures with a convlens server; threads may share it.

    A call that finds the server overloaded, starting or gone is made again within its timeout, as
    soon as the server asked for, or else after pauses that double.

    Args:
        address: of the server, "host:port".
        timeout_seconds: for each call, its retries included; the server drops what it cannot
            answer in time.
        retries: the most further attempts of one call; 0 for none.
        tls: the certificates of an encrypted connection; None for a plain one.
        token: that opens the server, where it asks for one.

    Example:
        >>> with Client() as client:
        ...     print(client.classify("cat.jpg").label)
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
        self._closed = threading.Event()
        self._channel = channel(connection)
        self._stub = pb_grpc.ClassifierStub(self._channel)

    def classify(
        self, picture: Picture, *, model: str = "", version: str = "", top_k: int = 5
    ) -> Classification:
        """Classify one picture.

        Args:
            picture: the path of a file; an encoded picture's bytes; a PIL image; or a uint8 array
                of shape (height, width), (height, width, 3) or (height, width, 4).
            model: empty for the server's only or default one.
            version: empty for the latest.
            top_k: how many predictions; more than there are classes means all.

        Raises:
            ClientError: see the tree in `convlens.client.errors`.
        """
        request = messages.classify_request(model, version, picture_bytes(picture), top_k)
        return messages.classification(*self._call(self._stub.Classify, request))

    def classify_many(
        self,
        pictures: Iterable[Picture],
        *,
        model: str = "",
        version: str = "",
        top_k: int = 5,
        concurrency: int = DEFAULT_CONCURRENCY,
        ordered: bool = True,
    ) -> Generator[Outcome, None, None]:
        """Classify pictures as they come, several at a time, in constant memory.

        A picture that fails has its error in its outcome and does not stop the others. At the most
        2 x concurrency pictures are read ahead of the outcomes that have been taken. Where the
        client is closed meanwhile, the iteration ends with `ClosedError`.

        Args:
            pictures: each as for `classify`; read from this thread, a few at a time.
            model: see `classify`, as for `version` and `top_k`.
            version: of the model.
            top_k: how many predictions a picture.
            concurrency: how many are in flight at a time.
            ordered: give the outcomes in the order of the pictures, or else as they come.

        Example:
            >>> for outcome in client.classify_many(Path("photos").glob("*.jpg")):
            ...     print(outcome.picture, outcome.error or outcome.classification.label)
        """

        def ask(index: int, picture: Picture) -> Outcome:
            answer: Classification | ClientError
            try:
                answer = self.classify(picture, model=model, version=version, top_k=top_k)
            except ClientError as error:
                answer = error
            return Outcome(index, picture, answer)

        outcomes = ask_many(pictures, ask, concurrency=concurrency, ordered=ordered)
        with closing(outcomes):
            for outcome in outcomes:
                if isinstance(outcome.error, ClosedError):
                    raise outcome.error
                yield outcome

    def list_models(self) -> tuple[ModelSummary, ...]:
        """Every version of every model that the server knows.

        Raises:
            ClientError: see the tree in `convlens.client.errors`.
        """
        response, _ = self._call(self._stub.ListModels, pb.ListModelsRequest())
        return messages.model_summaries(response)

    def describe_model(self, model: str = "", version: str = "") -> ModelDescription:
        """All about one model.

        Raises:
            ClientError: see the tree in `convlens.client.errors`.
        """
        request = messages.describe_request(model, version)
        response, _ = self._call(self._stub.DescribeModel, request)
        return messages.model_description(response)

    def close(self) -> None:
        """Close the connection; calls in flight end with `ClosedError`, as any later ones do."""
        self._closed.set()
        self._channel.close()

    def _call(self, method: Any, request: Any) -> tuple[Any, Metadata]:
        """The response and its trailers, after as many attempts as it takes."""
        attempts = Attempts(self._retry, self._address)
        while True:
            if self._closed.is_set():
                raise ClosedError
            try:
                response, call = method.with_call(
                    request, timeout=attempts.remaining_seconds, metadata=self._metadata
                )
                return response, call.trailing_metadata()
            except grpc.RpcError as error:
                if self._closed.is_set() or self._closed.wait(attempts.pause_after(error)):
                    raise ClosedError from error
            except ValueError as error:  # of grpc, where the channel was closed just now
                if not self._closed.is_set():
                    raise
                raise ClosedError from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
