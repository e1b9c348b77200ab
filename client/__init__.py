"""The Python client of the gRPC service, blocking and asyncio."""

from convlens.client.asynchronous import AsyncClient
from convlens.client.blocking import Client
from convlens.client.connection import (
    DEFAULT_ADDRESS,
    DEFAULT_CONCURRENCY,
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT_SECONDS,
    Tls,
)
from convlens.client.errors import (
    AccessError,
    ClientError,
    ClosedError,
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    OverloadedError,
    PictureError,
    ServerError,
    UnavailableError,
)
from convlens.client.messages import (
    Classification,
    ModelDescription,
    ModelSummary,
    Outcome,
    Prediction,
    Timing,
)
from convlens.client.pictures import Picture

__all__ = [
    "DEFAULT_ADDRESS",
    "DEFAULT_CONCURRENCY",
    "DEFAULT_RETRIES",
    "DEFAULT_TIMEOUT_SECONDS",
    "AccessError",
    "AsyncClient",
    "Classification",
    "Client",
    "ClientError",
    "ClosedError",
    "DeadlineExceededError",
    "InvalidArgumentError",
    "ModelDescription",
    "ModelSummary",
    "NotFoundError",
    "Outcome",
    "OverloadedError",
    "Picture",
    "PictureError",
    "Prediction",
    "ServerError",
    "Timing",
    "Tls",
    "UnavailableError",
]
