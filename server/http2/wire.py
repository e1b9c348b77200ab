"""The frames of one connection: cut from what comes in, joined to what goes out."""

import asyncio
import logging
from abc import abstractmethod
from typing import cast

from convlens.server.http2 import frames
from convlens.server.http2.frames import ConnectionFault, ErrorCode

READ_BYTES = 1 << 18  # at a time
MOST_FRAME_BYTES = 1 << 16  # of a client's payload: a photograph may come in one
LAST_SECONDS = 1.0  # that a client has for closing a connection that the server has closed
LAST_BYTES = 16 << 20  # that are read from it meanwhile
UNREAD_BYTES = 1 << 18  # that a client may leave unread before it is not read from, either

logger = logging.getLogger(__name__)


class Wire(asyncio.BufferedProtocol):
    """Reads and writes frames; a subclass knows what they mean.

    DATA, which is nearly all that comes, is handed on as it comes, and copied by whoever keeps it.
    Other frames are kept until they are whole.

    Args:
        inbox: READ_BYTES that are read into. All connections of an event loop may share them: what
            was read is taken before anything else is read.

    Attributes:
        peer: the client's address, as grpc writes it: "ipv4:10.0.0.7:41234".
        is_writable: whether the client reads what it is sent.
    """

    def __init__(self, inbox: memoryview) -> None:
        self.peer = ""
        self.is_writable = True
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._has_preface = False
        self._inbox = inbox
        self._rest = bytearray()  # that came and cannot be taken yet
        self._needed_bytes = 0  # of the rest, for its first frame
        self._missing = 0, 0  # flags and stream of the DATA that is not all there
        self._missing_bytes = 0  # of it
        self._output: list[bytes] = []
        self._output_bytes = 0
        self._is_closing = False
        self._heard_at = self._loop.time()
        self._pinged_at: float | None = None
        self._end: asyncio.TimerHandle | None = None
        self._last_bytes = 0  # that came after the end

    @abstractmethod
    def greet(self) -> None:
        """The client is there."""

    @abstractmethod
    def take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """A frame has come in, other than DATA.

        Raises:
            ConnectionFault: it may not.
        """

    @abstractmethod
    def take_data(self, flags: int, stream: int, payload: memoryview) -> None:
        """A frame of DATA has come in, or a part of one, which is like a frame of its own.

        Args:
            flags: of the frame, which is whole where it has padding; the last part ends a call.
            stream: of the frame.
            payload: has to be copied where it is kept.

        Raises:
            ConnectionFault: it may not.
        """

    @abstractmethod
    def go_on(self) -> None:
        """The client reads again."""

    @abstractmethod
    def lost(self) -> None:
        """The connection is gone."""

    def send(self, data: bytes) -> None:
        """Send frames; those of one turn of the event loop go out together."""
        if self._is_closing:
            return
        if not self._output:
            self._loop.call_soon(self._flush)
        self._output.append(data)
        self._output_bytes += len(data)
        if self._output_bytes > UNREAD_BYTES:
            self._flush()

    def close(self) -> None:
        """Close once all that was sent has gone out, and the client has had time to read it.

        TCP forgets what is on its way to a client of which something is left unread. So what it
        sends is read and forgotten, for a while, until it closes as well.
        """
        transport = self._transport
        if transport is None or self._is_closing:
            return
        self._flush()
        self._is_closing = True
        self._rest.clear()
        if transport.can_write_eof():  # not with TLS, whose clients have to go by the GOAWAY
            transport.write_eof()
        transport.resume_reading()
        self._end = self._loop.call_later(LAST_SECONDS, transport.close)

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

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(UNREAD_BYTES)
        self.peer = _address(transport.get_extra_info("peername"))
        self.greet()

    def get_buffer(self, _: int) -> memoryview:
        """Where to read into."""
        return self._inbox

    def buffer_updated(self, size: int) -> None:
        """Take frames as they come, whole or in pieces."""
        self._heard_at = self._loop.time()
        self._pinged_at = None
        self._take_frames(self._inbox[:size])

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
            self._take_frames(self._inbox[:0])

    def connection_lost(self, _: Exception | None) -> None:
        """Nobody is there any more."""
        self._is_closing = True
        self._transport = None
        if self._end is not None:
            self._end.cancel()
        self._output.clear()
        self.lost()

    @abstractmethod
    def fail(self, fault: ConnectionFault) -> None:
        """The client broke the protocol: say so, and close."""

    def _take_frames(self, data: memoryview) -> None:
        if self._is_closing:
            self._last_bytes += len(data)
            if self._last_bytes > LAST_BYTES and self._transport is not None:
                self._transport.close()
            return
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed_bytes:
                return
            data = memoryview(bytes(self._rest))
            self._rest.clear()
        try:
            at = self._cut(data)
        except ConnectionFault as fault:
            self.fail(fault)
            return
        if at < len(data):
            self._rest += data[at:]

    def _cut(self, data: memoryview) -> int:
        """Take what is there, while the answers are read; returns where the rest is."""
        at, end = 0, len(data)
        if not self._has_preface:
            if not self._take_preface(data):
                self._needed_bytes = len(frames.PREFACE)
                return 0
            at = len(frames.PREFACE)
        elif self._missing_bytes:
            at = self._take_missing(data, 0)
        self._needed_bytes = frames.HEAD_BYTES
        while end - at >= frames.HEAD_BYTES and self.is_writable and not self._is_closing:
            high, low, kind, flags, stream = frames.HEAD.unpack_from(data, at)
            length = high << 8 | low
            if length > MOST_FRAME_BYTES:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            start = at + frames.HEAD_BYTES
            stream &= frames.LARGEST_WINDOW
            if kind == frames.DATA and not flags & frames.PADDED:
                self._missing = flags, stream
                self._missing_bytes = length
                at = self._take_missing(data, start)
            elif end - start >= length:
                at = start + length
                payload = data[start:at]
                if kind == frames.DATA:
                    self.take_data(flags, stream, payload)
                else:
                    self.take(kind, flags, stream, bytes(payload))
            else:
                self._needed_bytes = frames.HEAD_BYTES + length
                break
        return at

    def _take_preface(self, data: memoryview) -> bool:
        """Take the client's first bytes; returns whether they are all there."""
        length = len(frames.PREFACE)
        if not frames.PREFACE.startswith(bytes(data[:length])):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this port speaks gRPC over HTTP/2")
        self._has_preface = len(data) >= length
        return self._has_preface

    def _take_missing(self, data: memoryview, at: int) -> int:
        """Take from there what is missing of a frame of DATA; returns where that ends."""
        payload = data[at : at + self._missing_bytes]
        self._missing_bytes -= len(payload)
        flags, stream = self._missing
        if not self._missing_bytes:
            self.take_data(flags, stream, payload)
        elif payload:
            self.take_data(flags & ~frames.END_STREAM, stream, payload)
        return at + len(payload)

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
