"""What a call answers: messages that wait until its client takes them, and trailers."""

import asyncio
from typing import Protocol

from convlens.server.http2.frames import DATA, frame, header_frames
from convlens.server.http2.heads import RESPONSE_FIELDS
from convlens.server.http2.messages import framed


class ResponseWire(Protocol):
    """What answers need of their connection.

    Attributes:
        is_writable: whether the client reads what it is sent.
        max_frame: bytes of a frame that the client takes.
        send_window: bytes that the client takes of all calls.
        stream_window: bytes that it takes of each call, before what it has granted that one.
    """

    is_writable: bool
    max_frame: int
    send_window: int
    stream_window: int

    def send(self, frames: bytes) -> None:
        """Send frames, after those before."""


class Responses:
    """The answer of one call.

    Args:
        wire: its connection.
        stream: its number there.

    Attributes:
        granted: bytes that the client takes beside the window of each call; negative once some of
            that is used up.
    """

    __slots__ = ("_has_begun", "_output", "_room", "_stream", "_wire", "granted")

    def __init__(self, wire: ResponseWire, stream: int) -> None:
        self.granted = 0
        self._wire = wire
        self._stream = stream
        self._has_begun = False
        self._output = bytearray()
        self._room: asyncio.Future[None] | None = None

    @property
    def held_bytes(self) -> int:
        """Of what the client does not take yet."""
        return len(self._output)

    def put(self, message: bytes) -> None:
        """Let a message follow those before."""
        if not self._has_begun:
            self._has_begun = True
            self._wire.send(header_frames(self._stream, RESPONSE_FIELDS, self._wire.max_frame))
        self._output += framed(message)

    def pump(self) -> bool:
        """Send what the client takes by now; returns whether that was all."""
        wire = self._wire
        while self._output and wire.is_writable:
            window = min(wire.stream_window + self.granted, wire.send_window, wire.max_frame)
            if window <= 0:
                break
            part = bytes(self._output[:window])
            wire.send(frame(DATA, 0, self._stream, part))
            del self._output[:window]
            self.granted -= len(part)
            wire.send_window -= len(part)
        if self._output:
            return False
        self._wake()
        return True

    async def taken(self) -> None:
        """Wait until the client has taken all."""
        while self._output:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def end(self, trailers: bytes) -> None:
        """Send the trailers, all messages being sent."""
        block = trailers if self._has_begun else RESPONSE_FIELDS + trailers
        self._wire.send(header_frames(self._stream, block, self._wire.max_frame, end_stream=True))

    def clear(self) -> None:
        """Forget what has not been sent."""
        self._output.clear()
        self._wake()

    def _wake(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
