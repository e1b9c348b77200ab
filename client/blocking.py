"""The blocking client."""

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


class Client:
    """Classifies pictures with a convlens server; threads may share it.

    Args:
        address: of the server, "host:port".
        timeout_seconds: for each call; the server drops what it cannot answer in time.
        tls: the certificates of an encrypted connection; None for a plain one.
        token: that opens the server, where it asks for one.

    Example:
        >>> with Client() as client:
        ...     print(client.classify("cat.jpg").predictions[0].label)
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
            self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, tls.credentials(), CHANNEL_OPTIONS)
        self._stub = pb_grpc.ClassifierStub(self._channel)

    def classify(
        self, picture: Picture, *, model: str = "", version: str = "", top_k: int = 5
    ) -> Classification:
        """Classify one picture.

        Args:
            picture: the path of a file, or an encoded picture's bytes.
            model: empty for the server's only or default one.
            version: empty for the latest.
            top_k: how many predictions; more than there are classes means all.

        Raises:
            ClientError: see the tree in `convlens.client.errors`.
        """
        request = pb.ClassifyRequest(
            model=model, version=version, image=messages.picture_bytes(picture), top_k=top_k
        )
        try:
            response, call = self._stub.Classify.with_call(request, **self._call)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._address) from error
        return messages.classification(response, call.trailing_metadata())

    def list_models(self) -> tuple[ModelSummary, ...]:
        """Every version of every model that the server knows.

        Raises:
            ClientError: see the tree in `convlens.client.errors`.
        """
        try:
            response = self._stub.ListModels(pb.ListModelsRequest(), **self._call)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._address) from error
        return tuple(messages.model_summary(entry) for entry in response.models)

    def describe_model(self, model: str = "", version: str = "") -> ModelDescription:
        """All about one model.

        Raises:
            ClientError: see the tree in `convlens.client.errors`.
        """
        request = pb.DescribeModelRequest(model=model, version=version)
        try:
            response = self._stub.DescribeModel(request, **self._call)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._address) from error
        return messages.model_description(response)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
