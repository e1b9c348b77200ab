"""What calls may have."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one call may have.

    Attributes:
        max_message_bytes: of each message.
        max_metadata_bytes: of its headers.
        held_bytes: of all messages of all calls that have come in and nobody has read, or that no
            client takes; two of the largest are taken in any case.
    """

    max_message_bytes: int
    max_metadata_bytes: int
    held_bytes: int = 256 << 20
