"""The Python client of the gRPC service, blocking and asyncio."""

from convlens.client.asynchronous import AsyncClient
from convlens.client.blocking import Client
from convlens.client.connection import DEFAULT_ADDRESS, Tls
from convlens.client.errors import (
    AccessError,
    ClientError,
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
    Prediction,
    Timing,
)

__all__ = [
    "DEFAULT_ADDRESS",
    "AccessError",
    "AsyncClient",
    "Classification",
    "Client",
    "ClientError",
    "DeadlineExceededError",
    "InvalidArgumentError",
    "ModelDescription",
    "ModelSummary",
    "NotFoundError",
    "OverloadedError",
    "PictureError",
    "Prediction",
    "ServerError",
    "Timing",
    "Tls",
    "UnavailableError",
]
