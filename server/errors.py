"""What can go wrong in the server, and the one table that turns it into gRPC status codes.

ServerError
├── ConfigurationError     a setting is unknown or wrong
├── StartError             the server cannot start: port in use, no model, no such provider
├── ProcessGoneError       a process of the server died while another one waited for its answer
├── ModelLoadError         a model file is broken, or does not compute what it promises
├── TuningError            a model cannot be tuned, or what was found cannot be written
├── ModelNotFoundError     no such model or version
├── ModelNotReadyError     the model is being loaded or unloaded
│   └── ModelRetiredError      another file took this one's place: ask for the model again
├── InvalidRequestError    the request contradicts itself or the model
│   ├── InvalidPictureError    not a picture, a truncated one, or one with too many pixels
│   └── InvalidTensorError     another name, datatype, shape or number of elements than is needed
├── UnauthenticatedError   the call carries no token, or one that is not known
├── PermissionDeniedError  the token does not open what was asked for
├── OverloadedError        the queue is full
│   └── ClientLimitError       one client has too much in flight
└── DeadlineExceededError  the caller's deadline has passed

Anything else that is raised while a request is answered is our fault: INTERNAL.
"""

from typing import Any

import grpc


class ServerError(Exception):
    """The root of this package's errors; its text is fit to be sent to a caller."""

    def details(self) -> dict[str, Any]:
        """What its class is made of besides the text, by argument; JSON can carry it."""
        return {}


class ConfigurationError(ServerError):
    """A setting is unknown or wrong; the text names it and where it came from."""


class StartError(ServerError):
    """The server cannot start."""


class ProcessGoneError(ServerError):
    """A process of the server died while another one waited for its answer."""


class ModelLoadError(ServerError):
    """A model file is broken, or does not compute what it promises."""


class TuningError(ServerError):
    """A model cannot be tuned, or what was found cannot be written."""


class ModelNotFoundError(ServerError):
    """There is no such model or version."""


class ModelNotReadyError(ServerError):
    """The model is being loaded or unloaded."""


class ModelRetiredError(ModelNotReadyError):
    """The model was unloaded, or another file took its place: ask for it again."""


class InvalidRequestError(ServerError):
    """The request contradicts itself or the model."""


class InvalidPictureError(InvalidRequestError):
    """The bytes are no picture, a truncated one, or one with too many pixels."""


class InvalidTensorError(InvalidRequestError):
    """A tensor's name, datatype, shape or contents contradict each other or the model."""


class UnauthenticatedError(ServerError):
    """The call carries no token, or one that is not known."""


class PermissionDeniedError(ServerError):
    """The token does not open what was asked for."""


class OverloadedError(ServerError):
    """The queue is full.

    Attributes:
        retry_after_seconds: when there is likely to be room.
    """

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds

    def details(self) -> dict[str, Any]:
        """When there is likely to be room."""
        return {"retry_after_seconds": self.retry_after_seconds}


class ClientLimitError(OverloadedError):
    """One client has as much in flight as it may have."""


class DeadlineExceededError(ServerError):
    """The caller's deadline has passed; no work was done after it."""


STATUS_CODES: dict[type[ServerError], grpc.StatusCode] = {
    ModelLoadError: grpc.StatusCode.FAILED_PRECONDITION,
    ModelNotFoundError: grpc.StatusCode.NOT_FOUND,
    ModelNotReadyError: grpc.StatusCode.UNAVAILABLE,
    ProcessGoneError: grpc.StatusCode.UNAVAILABLE,
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def status_code(error: Exception) -> grpc.StatusCode:
    """The gRPC status code of an error; INTERNAL for one that is not in the table."""
    for kind in type(error).__mro__:
        if kind in STATUS_CODES:
            return STATUS_CODES[kind]
    return grpc.StatusCode.INTERNAL
