"""Who sent the request that is being answered, and how urgent it is."""

import enum
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass

from convlens.server.errors import InvalidRequestError


class Priority(enum.IntEnum):
    """What goes first where requests wait; the metadata `x-priority` names it."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


PRIORITIES = {priority.name.lower(): priority for priority in Priority}


@dataclass(frozen=True)
class Caller:
    """Where a request comes from.

    Attributes:
        client: a token's hash or an address without its port; "" where clients are not told apart.
        priority: of the request.
    """

    client: str = ""
    priority: Priority = Priority.NORMAL


UNKNOWN = Caller()

# Of the call that is being answered; each call's task has its own.
CALLER: ContextVar[Caller] = ContextVar("CALLER", default=UNKNOWN)


def read_priority(metadata: Iterable[tuple[str, str | bytes]]) -> Priority:
    """The priority that a call asks for: high, normal or low.

    Raises:
        InvalidRequestError: it is none of them.
    """
    for key, value in metadata:
        if key == "x-priority":
            if value not in PRIORITIES:
                raise InvalidRequestError(
                    f"x-priority: must be {', '.join(PRIORITIES)}, is {value!r}"
                )
            return PRIORITIES[str(value)]
    return Priority.NORMAL


def host_of(peer: str) -> str:
    """The address of a gRPC peer without its port: "ipv4:10.0.0.7:41234" is "ipv4:10.0.0.7"."""
    return peer.rpartition(":")[0] or peer
