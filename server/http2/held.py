"""What all calls together have the server hold in memory."""


class Held:
    """The bytes of messages that have come in and nobody has read, or that no client takes.

    Windows bound what one call holds; this bounds their sum, so that many calls that each keep to
    their own limit cannot fill the memory.

    Args:
        most_bytes: of all calls of the process.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0

    def change(self, change_bytes: int) -> bool:
        """Note that a call holds more, or less; returns whether it may hold more."""
        self._bytes += change_bytes
        return change_bytes < 0 or self._bytes <= self._most_bytes
