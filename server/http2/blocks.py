"""Blocks of headers: each comes in one frame or more, and nothing else in between."""

from dataclasses import dataclass

from convlens.server.http2 import frames
from convlens.server.http2.frames import ConnectionFault, ErrorCode

MORE_FRAMES = 8  # than the longest block needs
_PRIORITY_BYTES = 5


@dataclass(slots=True)
class Block:
    """The headers of a stream, packed.

    Attributes:
        stream: its number.
        last: whether the client sends nothing after them.
        payload: the packed headers.
        frame_count: of those that they came in.
    """

    stream: int
    last: bool
    payload: bytes
    frame_count: int = 1


class BlockReader:
    """Puts blocks together.

    Args:
        max_bytes: of a block.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._max_frames = max_bytes // frames.SMALLEST_MAX_FRAME + MORE_FRAMES
        self._open: Block | None = None

    def check(self, kind: int, stream: int) -> None:
        """See that a frame does not come amid a block.

        Raises:
            ConnectionFault: it does.
        """
        if self._open is not None and (kind, stream) != (frames.CONTINUATION, self._open.stream):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "headers are not continued")

    def begin(self, flags: int, stream: int, payload: bytes) -> Block | None:
        """Take HEADERS; returns the block where this is all of it.

        Raises:
            ConnectionFault: they are none of a client.
        """
        if stream % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a client's call on stream {stream}")
        if flags & frames.PADDED:
            payload = frames.without_padding(payload)
        if flags & frames.HAS_PRIORITY:
            if len(payload) < _PRIORITY_BYTES:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a priority that is cut short")
            payload = payload[_PRIORITY_BYTES:]
        block = Block(stream, bool(flags & frames.END_STREAM), payload)
        if flags & frames.END_HEADERS:
            return block
        self._open = block
        return None

    def go_on(self, flags: int, payload: bytes) -> Block | None:
        """Take CONTINUATION; returns the block where this is the end of it.

        Raises:
            ConnectionFault: there is nothing to continue, or no end to it.
        """
        block = self._open
        if block is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a continuation of nothing")
        block.payload += payload
        block.frame_count += 1
        if len(block.payload) > self._max_bytes or block.frame_count > self._max_frames:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "headers without an end")
        if not flags & frames.END_HEADERS:
            return None
        self._open = None
        return block
