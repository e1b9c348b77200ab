"""What answers the calls of one path."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC of a service.

    Attributes:
        behavior: is given the request, or an asynchronous iterator of them, and the call; returns
            an awaitable, or where it generates responses an asynchronous iterator.
        read: makes a request of its bytes.
        write: makes bytes of a response.
        streams_requests: whether a call has any number of requests, rather than one.
        generates: whether the behavior is an asynchronous generator of responses.
        responds: whether the behavior returns the one response; one that neither generates nor
            responds sends them by `Call.write`.
    """

    behavior: Callable[[Any, Any], Any]
    read: Callable[[bytes | bytearray], Any]
    write: Callable[[Any], bytes]
    streams_requests: bool
    generates: bool
    responds: bool


FindMethod = Callable[[str], Method | None]  # of a path, "/package.Service/Method"


class AbortError(Exception):
    """A handler has ended its call; see `Call.abort`.

    Args:
        code: that the caller gets.
    """

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code.name)
        self.code = code
