"""What a call can end with, other than an answer.

ClientError
├── PictureError           the picture cannot be read here; nothing was sent
├── InvalidArgumentError   the server cannot use the picture or the request, or it is too large
├── NotFoundError          no such model or version
├── AccessError            no token, an unknown one, or one that does not open the model
├── OverloadedError        the server's queue is full
├── DeadlineExceededError  no answer within the timeout
├── ClosedError            the client was closed
├── UnavailableError       no server at the address, or one that starts or stops
└── ServerError            everything else, the server's own faults among it
"""

from typing import Any

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2


class ClientError(Exception):
    """The root of this package's errors.

    Attributes:
        code: the name of the gRPC status code, such as "NOT_FOUND".
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PictureError(ClientError):
    """The picture cannot be read here; nothing was sent."""


class InvalidArgumentError(ClientError):
    """The server cannot use the picture or the request, or it is too large."""


class NotFoundError(ClientError):
    """The server has no such model or version."""


class AccessError(ClientError):
    """The call carries no token, an unknown one, or one that does not open the model."""


class OverloadedError(ClientError):
    """The server's queue is full.

    Attributes:
        retry_after_seconds: when the server expects to have room.
    """

    def __init__(self, code: str, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(code, message)
        self.retry_after_seconds = retry_after_seconds


class DeadlineExceededError(ClientError):
    """There was no answer within the timeout."""


class ClosedError(ClientError):
    """The client was closed, before the call or while it was in flight."""

    def __init__(self) -> None:
        super().__init__("CANCELLED", "the client is closed")


class UnavailableError(ClientError):
    """There is no server at the address, or it starts or stops."""


class ServerError(ClientError):
    """Everything else, the server's own faults among it."""


KINDS: dict[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAUTHENTICATED: AccessError,
    grpc.StatusCode.PERMISSION_DENIED: AccessError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    # Not by us: a server that shuts down drops so the calls that it has not yet looked at.
    grpc.StatusCode.CANCELLED: UnavailableError,
}


# grpc and our server give a message that exceeds a limit the code of a full queue; only their text
# differs.
TOO_LARGE = "larger than max"


def from_rpc_error(error: grpc.RpcError, address: str) -> ClientError:
    """The typed error of a failed call.

    Args:
        error: as grpc raises it from a blocking or an asyncio call.
        address: of the server, for the text.
    """
    code = error.code()
    message = error.details() or code.name
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and TOO_LARGE in message:
        return InvalidArgumentError(code.name, message)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return OverloadedError(code.name, message, _retry_after_seconds(error))
    kind = KINDS.get(code, ServerError)
    if kind is UnavailableError:
        message = f"{address}: {message}"
    return kind(code.name, message)


def _retry_after_seconds(error: grpc.RpcError) -> float:
    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.RetryInfo()
                if detail.Unpack(info):
                    delay: duration_pb2.Duration = info.retry_delay
                    return delay.seconds + delay.nanos / 1e9
    return 0.0
