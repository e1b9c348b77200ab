"""Messages that are no protobuf: the caller's fault, and told as such."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from convlens.server.errors import InvalidRequestError


@dataclass(frozen=True)
class _Malformed:
    """Stands for a message on its way from the deserialiser to the edge."""

    reason: str


def tolerant(
    deserialize: Callable[[bytes | bytearray], Any],
) -> Callable[[bytes | bytearray], Any]:
    """The same deserialiser, which says that a message is malformed rather than to fail."""

    def read(data: bytes | bytearray) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            return _Malformed(str(error))

    return read


def checked(request: Any) -> Any:
    """The request; raises InvalidRequestError where it was malformed."""
    if isinstance(request, _Malformed):
        raise InvalidRequestError(f"the message is malformed: {request.reason}")
    return request


async def all_checked(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The requests of a stream, up to a malformed one; see `checked`."""
    async for request in requests:
        yield checked(request)
