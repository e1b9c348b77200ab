"""One client's connection: frames come in and go out, and belong to calls."""

import asyncio
import logging
from dataclasses import dataclass

import grpc

from convlens.server.http2 import frames as h2
from convlens.server.http2.call import RECEIVE_WINDOW, Call
from convlens.server.http2.frames import ConnectionFault, ErrorCode, Setting
from convlens.server.http2.heads import (
    RESPONSE_FIELDS,
    HeadReader,
    RequestHead,
    http_refusal,
    status_fields,
)
from convlens.server.http2.method import FindMethod
from convlens.server.http2.wire import Wire

MOST_CALLS = 1024  # of one connection at a time
CONNECTION_WINDOW = 16 << 20  # bytes that a client may send before more are granted
HEADERS_TIMES = 4  # the limit of the metadata: a longer block is not even read
MORE_FRAMES = 8  # than a block of headers needs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What one call may have.

    Attributes:
        max_message_bytes: of each message.
        max_metadata_bytes: of its headers.
    """

    max_message_bytes: int
    max_metadata_bytes: int


class Connection(Wire):
    """Speaks HTTP/2 with one client.

    Args:
        find: a method by its path.
        limits: of each call.

    Attributes:
        gone: is done once the connection is closed.
    """

    def __init__(self, find: FindMethod, limits: Limits) -> None:
        super().__init__()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._find = find
        self._limits = limits
        self._heads = HeadReader(limits.max_metadata_bytes)
        self._calls: dict[int, Call] = {}
        self._cancelled_calls = 0  # whose handlers are still at work
        self._newest_stream = 0
        self._block: _Block | None = None
        self._receive_window = CONNECTION_WINDOW
        self.send_window = h2.DEFAULT_WINDOW
        self._stream_window = h2.DEFAULT_WINDOW
        self.max_frame = h2.SMALLEST_MAX_FRAME
        self._is_leaving = False

    # Of its client as a whole

    def greet(self) -> None:
        """Tell the client what it may send."""
        values = {
            Setting.MAX_CONCURRENT_STREAMS: MOST_CALLS,
            Setting.INITIAL_WINDOW_SIZE: RECEIVE_WINDOW,
            Setting.MAX_HEADER_LIST_SIZE: self._limits.max_metadata_bytes,
        }
        grant = CONNECTION_WINDOW - h2.DEFAULT_WINDOW
        self.send(h2.settings(values) + h2.window_update(0, grant))

    def go_on(self) -> None:
        """Let the calls go on that wait for the client to take something."""
        for call in [call for call in self._calls.values() if call.has_output]:
            call.pump()

    def lost(self) -> None:
        """Nobody waits for the calls any more."""
        for call in list(self._calls.values()):
            self._cancel(call)
        self.gone.set_result(None)

    def fail(self, fault: ConnectionFault) -> None:
        """Say what the client did wrong, and close."""
        logger.debug("%s broke the protocol: %s", self.peer, fault)
        self.send(h2.go_away(self._newest_stream, fault.code, str(fault)))
        self.close()

    # What calls ask of it

    def forget(self, call: Call) -> None:
        """The call is over."""
        self._calls.pop(call.stream, None)
        if self._is_leaving and not self._calls:
            self.close()

    # What the server asks of it

    def leave(self) -> None:
        """Take no new calls, and close once those in flight are done."""
        if self._is_leaving:
            return
        self._is_leaving = True
        self.send(h2.go_away(self._newest_stream, ErrorCode.NO_ERROR))
        if not self._calls:
            self.close()

    def end_calls(self, reason: str) -> None:
        """End the calls that are still in flight, whose callers may try elsewhere."""
        for call in list(self._calls.values()):
            call.end_at_once(grpc.StatusCode.UNAVAILABLE, reason)

    # Frames

    def take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Do what a frame asks for; see `Wire.take`."""
        if self._block is not None and (kind, stream) != (h2.CONTINUATION, self._block.stream):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "headers are not continued")
        if kind == h2.DATA:
            self._data(flags, stream, payload)
        elif kind == h2.HEADERS:
            self._headers(flags, stream, payload)
        elif kind == h2.CONTINUATION:
            self._continuation(flags, payload)
        elif kind == h2.WINDOW_UPDATE:
            self._window_update(stream, payload)
        elif kind == h2.RST_STREAM:
            self._reset(stream, payload)
        elif kind == h2.SETTINGS:
            self._settings(flags, stream, payload)
        elif kind == h2.PING:
            self._ping(flags, stream, payload)
        elif kind == h2.GOAWAY:
            pass  # the client opens no more calls, and closes when it has its answers
        elif kind == h2.PUSH_PROMISE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client pushes nothing")
        # PRIORITY, and what we do not know, is to be passed over.

    def _data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than was granted")
        if self._receive_window <= CONNECTION_WINDOW // 2:
            self.send(h2.window_update(0, CONNECTION_WINDOW - self._receive_window))
            self._receive_window = CONNECTION_WINDOW
        if flags & h2.PADDED:
            payload = h2.without_padding(payload)
        call = self._calls.get(stream)
        if call is not None:
            call.received(payload, size, last=bool(flags & h2.END_STREAM))
        elif stream > self._newest_stream or stream == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA without headers")

    def _headers(self, flags: int, stream: int, payload: bytes) -> None:
        if stream % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a client's call on stream {stream}")
        if flags & h2.PADDED:
            payload = h2.without_padding(payload)
        if flags & h2.HAS_PRIORITY:
            payload = payload[5:]
        last = bool(flags & h2.END_STREAM)
        if flags & h2.END_HEADERS:
            self._head(stream, payload, last=last)
        else:
            self._block = _Block(stream, last, payload)

    def _continuation(self, flags: int, payload: bytes) -> None:
        block = self._block
        if block is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a continuation of nothing")
        block.payload += payload
        block.frames += 1
        most_bytes = HEADERS_TIMES * self._limits.max_metadata_bytes
        if (
            len(block.payload) > most_bytes
            or block.frames > most_bytes // h2.SMALLEST_MAX_FRAME + 8
        ):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "headers without an end")
        if flags & h2.END_HEADERS:
            self._block = None
            self._head(block.stream, block.payload, last=block.last)

    def _head(self, stream: int, block: bytes, *, last: bool) -> None:
        head = self._heads.read(block)
        call = self._calls.get(stream)
        if call is not None:  # a client's trailers, which say nothing
            call.received(b"", 0, last=True)
        elif stream > self._newest_stream and not self._is_leaving:
            self._newest_stream = stream
            self._open(stream, head, last=last)

    def _open(self, stream: int, head: RequestHead, *, last: bool) -> None:
        if len(self._calls) + self._cancelled_calls >= MOST_CALLS:
            self.send(h2.reset(stream, ErrorCode.REFUSED_STREAM))
            return
        if head.http_status != 200:
            self.send(h2.header_frames(stream, http_refusal(head), self.max_frame, end_stream=True))
            return
        method = self._find(head.path)
        if method is None or head.excess_bytes:
            self.send(_refusal(stream, head, self._limits, self.max_frame, is_done=last))
            return
        call = Call(self, stream, head, method, self._limits.max_message_bytes, self._stream_window)
        self._calls[stream] = call
        call.begin()
        if last:
            call.received(b"", 0, last=True)

    def _window_update(self, stream: int, payload: bytes) -> None:
        increment = int.from_bytes(_sized(payload, 4)) & h2.LARGEST_WINDOW
        call = self._calls.get(stream)
        if increment == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a window that grows by nothing")
        if stream == 0:
            self.send_window += increment
            if self.send_window > h2.LARGEST_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "too large a window")
            self.go_on()
        elif call is not None:
            call.send_window += increment
            if call.send_window > h2.LARGEST_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "too large a window")
            call.pump()

    def _reset(self, stream: int, payload: bytes) -> None:
        _sized(payload, 4)
        if stream > self._newest_stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the reset of a call that is not there")
        call = self._calls.get(stream)
        if call is not None:
            self._cancel(call)

    def _settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & h2.ACK:
            return
        for number, value in h2.read_settings(payload):
            if number == Setting.INITIAL_WINDOW_SIZE:
                if value > h2.LARGEST_WINDOW:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "too large a window")
                for call in self._calls.values():
                    call.send_window += value - self._stream_window
                self._stream_window = value
            elif number == Setting.MAX_FRAME_SIZE:
                if not h2.SMALLEST_MAX_FRAME <= value <= h2.LARGEST_MAX_FRAME:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"frames of {value} bytes")
                self.max_frame = value
            elif number == Setting.ENABLE_PUSH and value > 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH is {value}")
        self.send(h2.frame(h2.SETTINGS, h2.ACK, 0, b""))
        self.go_on()

    def _ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING of a stream")
        if not flags & h2.ACK:
            self.send(h2.frame(h2.PING, h2.ACK, 0, _sized(payload, 8)))
        else:
            _sized(payload, 8)

    # Ends

    def _cancel(self, call: Call) -> None:
        """Stop a call that nobody waits for; until its handler has stopped it counts as one."""
        call.cancel()
        if call.task is not None and not call.task.done():
            self._cancelled_calls += 1
            call.task.add_done_callback(self._has_stopped)
        self.forget(call)

    def _has_stopped(self, _: asyncio.Task[None]) -> None:
        self._cancelled_calls -= 1


@dataclass
class _Block:
    """Headers whose end has not come."""

    stream: int
    last: bool
    payload: bytes
    frames: int = 1


def _sized(payload: bytes, length: int) -> bytes:
    if len(payload) != length:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a payload of {len(payload)} bytes")
    return payload


def _refusal(
    stream: int, head: RequestHead, limits: Limits, max_frame: int, *, is_done: bool
) -> bytes:
    """What answers a call without a method, or with too much metadata."""
    if head.excess_bytes:
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
        most = limits.max_metadata_bytes
        reason = f"metadata may have {most} bytes, here it has {most + head.excess_bytes}"
    else:
        code, reason = grpc.StatusCode.UNIMPLEMENTED, f"there is no method {head.path}"
    block = RESPONSE_FIELDS + status_fields(code.value[0], reason, ())
    frames = h2.header_frames(stream, block, max_frame, end_stream=True)
    return frames if is_done else frames + h2.reset(stream, ErrorCode.NO_ERROR)
