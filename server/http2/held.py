"""What all calls together have the server hold in memory."""

from collections.abc import Iterable
from typing import Protocol


class Holder(Protocol):
    """One of those who share the room: a connection, with its calls.

    Attributes:
        held_bytes: that it has the server hold.
    """

    held_bytes: int

    def make_room(self) -> None:
        """End the call that holds the most, if any."""


class Held:
    """The bytes of messages that have come in and nobody has read, or that no client takes.

    Windows bound what one call holds; this bounds their sum, so that many calls that each keep to
    their own limit cannot fill the memory. Where there is too much, who holds the most gives way:
    one client that fills the room does not keep the others out.

    Args:
        most_bytes: of all calls of the process.
        holders: those who share the room.
    """

    def __init__(self, most_bytes: int, holders: Iterable[Holder]) -> None:
        self._most_bytes = most_bytes
        self._holders = holders
        self._bytes = 0

    def change(self, change_bytes: int) -> None:
        """Note that a call holds more, or less."""
        self._bytes += change_bytes
        if change_bytes > 0 and self._bytes > self._most_bytes:
            max(self._holders, key=lambda holder: holder.held_bytes).make_room()
