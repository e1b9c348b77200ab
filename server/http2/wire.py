"""The frames of one connection: cut from what comes in, joined to what goes out."""

import asyncio
import logging
from abc import abstractmethod
from typing import cast

from convlens.server.http2 import frames
from convlens.server.http2.frames import ConnectionFault, ErrorCode

UNREAD_BYTES = 1 << 18  # that a client may leave unread before it is not read from, either

logger = logging.getLogger(__name__)


class Wire(asyncio.Protocol):
    """Reads and writes frames; a subclass knows what they mean.

    Attributes:
        peer: the client's address, as grpc writes it: "ipv4:10.0.0.7:41234".
        is_writable: whether the client reads what it is sent.
    """

    def __init__(self) -> None:
        self.peer = ""
        self.is_writable = True
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._has_preface = False
        self._input = b""  # of a frame that is not all there
        self._output: list[bytes] = []
        self._output_bytes = 0
        self._is_closing = False
        self._heard_at = self._loop.time()
        self._pinged_at: float | None = None

    @abstractmethod
    def greet(self) -> None:
        """The client is there."""

    @abstractmethod
    def take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """A frame has come in.

        Raises:
            ConnectionFault: it may not.
        """

    @abstractmethod
    def go_on(self) -> None:
        """The client reads again."""

    @abstractmethod
    def lost(self) -> None:
        """The connection is gone."""

    def send(self, frames: bytes) -> None:
        """Send frames; those of one turn of the event loop go out together."""
        if self._is_closing:
            return
        if not self._output:
            self._loop.call_soon(self._flush)
        self._output.append(frames)
        self._output_bytes += len(frames)
        if self._output_bytes > UNREAD_BYTES:
            self._flush()

    def close(self) -> None:
        """Close once all that was sent has gone out."""
        if self._transport is not None:
            self._flush()
            self._is_closing = True
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._flush()
            self._is_closing = True
            self._transport.abort()

    def check(self, silent_seconds: float, patience_seconds: float) -> None:
        """Ask a client that has been silent whether it is there; close where it does not answer.

        Args:
            silent_seconds: after which it is asked.
            patience_seconds: that it has for its answer, and for its first word.
        """
        now = self._loop.time()
        if self._pinged_at is not None or not self._has_preface:
            if now - (self._pinged_at or self._heard_at) > patience_seconds:
                logger.debug("%s does not answer: closed", self.peer)
                self.abort()
        elif now - self._heard_at > silent_seconds:
            self._pinged_at = now
            self.send(frames.frame(frames.PING, 0, 0, b"convlens"))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(UNREAD_BYTES)
        self.peer = _address(transport.get_extra_info("peername"))
        self.greet()

    def data_received(self, data: bytes) -> None:
        """Take frames as they come, whole or in pieces."""
        self._heard_at = self._loop.time()
        self._pinged_at = None
        self._input = self._input + data if self._input else data
        self._take_frames()

    def pause_writing(self) -> None:
        """The client does not read: it is not read from either, lest replies to it pile up."""
        self.is_writable = False
        if self._transport is not None and not self._is_closing:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self.is_writable = True
        if self._transport is not None and not self._is_closing:
            self._transport.resume_reading()
            self.go_on()
            self._take_frames()

    def connection_lost(self, _: Exception | None) -> None:
        """Nobody is there any more."""
        self._is_closing = True
        self._transport = None
        self._output.clear()
        self.lost()

    @abstractmethod
    def fail(self, fault: ConnectionFault) -> None:
        """The client broke the protocol: say so, and close."""

    def _take_frames(self) -> None:
        if self._is_closing:
            return
        try:
            self._input = self._input[self._cut(self._input) :]
        except ConnectionFault as fault:
            self.fail(fault)

    def _cut(self, data: bytes) -> int:
        """Take all frames that are whole, while the answers are read; returns where the rest is."""
        at = 0
        if not self._has_preface:
            if not frames.PREFACE.startswith(data[: len(frames.PREFACE)]):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this port speaks gRPC over HTTP/2")
            if len(data) < len(frames.PREFACE):
                return 0
            self._has_preface = True
            at = len(frames.PREFACE)
        end = len(data)
        while end - at >= frames.HEAD_BYTES and self.is_writable and not self._is_closing:
            high, low, kind, flags, stream = frames.HEAD.unpack_from(data, at)
            length = high << 8 | low
            if length > frames.SMALLEST_MAX_FRAME:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            start = at + frames.HEAD_BYTES
            if end - start < length:
                break
            at = start + length
            self.take(kind, flags, stream & frames.LARGEST_WINDOW, data[start:at])
        return at

    def _flush(self) -> None:
        if self._output and self._transport is not None:
            self._transport.write(b"".join(self._output))
        self._output.clear()
        self._output_bytes = 0


def _address(address: object) -> str:
    """As grpc writes it: "ipv4:10.0.0.7:41234"."""
    if not isinstance(address, tuple):
        return "unknown"
    host, port = address[:2]
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
