"""One client's connection: frames come in and go out, and belong to calls."""

import asyncio
import logging

import grpc

from convlens.server.http2 import frames
from convlens.server.http2.blocks import Block, BlockReader
from convlens.server.http2.call import Call
from convlens.server.http2.frames import ConnectionFault, ErrorCode, Setting, sized
from convlens.server.http2.heads import HeadReader, RequestHead, refusal
from convlens.server.http2.held import Held
from convlens.server.http2.limits import Limits
from convlens.server.http2.method import FindMethod
from convlens.server.http2.requests import RECEIVE_WINDOW
from convlens.server.http2.wire import MOST_FRAME_BYTES, Wire

MOST_CALLS = 1024  # of one connection at a time
CONNECTION_WINDOW = 16 << 20  # bytes that a client may send before more are granted
HEADERS_TIMES = 4  # the limit of the metadata: a longer block is not even read
MOST_IDLE_FRAMES = 10_000  # between two checks: they ask for nothing, and cost as much as others

NOTHING = memoryview(b"")
_OF_THE_CONNECTION = (frames.SETTINGS, frames.PING, frames.GOAWAY)

logger = logging.getLogger(__name__)


class Connection(Wire):
    """Speaks HTTP/2 with one client.

    Args:
        find: a method by its path.
        limits: of each call.
        held: what all calls have the server hold.
        connections: those that are open; this one is among them for as long as it is.
        inbox: see `Wire`.

    Attributes:
        gone: is done once the connection is closed.
        held_bytes: that the calls have the server hold.
    """

    def __init__(
        self,
        find: FindMethod,
        limits: Limits,
        held: Held,
        connections: set["Connection"],
        inbox: memoryview,
    ) -> None:
        super().__init__(inbox)
        self._connections = connections
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self.held_bytes = 0
        self._held = held
        self.send_window = frames.DEFAULT_WINDOW
        self.stream_window = frames.DEFAULT_WINDOW
        self.max_frame = frames.SMALLEST_MAX_FRAME
        self._find = find
        self._limits = limits
        self._blocks = BlockReader(HEADERS_TIMES * limits.max_metadata_bytes)
        self._heads = HeadReader(limits.max_metadata_bytes)
        self._calls: dict[int, Call] = {}
        self._lingering: set[asyncio.Task[None]] = set()  # handlers of calls that are over
        self._newest_stream = 0  # that the client has begun
        self._last_stream = 0  # that is answered
        self._receive_window = CONNECTION_WINDOW
        self._idle_frames = 0
        self._is_greeted = False
        self._goes_on = False  # soon
        self._is_leaving = False

    # Of its client as a whole

    def greet(self) -> None:
        """Tell the client what it may send."""
        self._connections.add(self)
        values = {
            Setting.MAX_CONCURRENT_STREAMS: MOST_CALLS,
            Setting.INITIAL_WINDOW_SIZE: RECEIVE_WINDOW,
            Setting.MAX_FRAME_SIZE: MOST_FRAME_BYTES,
            Setting.MAX_HEADER_LIST_SIZE: self._limits.max_metadata_bytes,
        }
        grant = CONNECTION_WINDOW - frames.DEFAULT_WINDOW
        self.send(frames.settings(values) + frames.window_update(0, grant))

    def go_on(self) -> None:
        """Let the calls go on that wait for the client to take something."""
        self._goes_on = False
        most_granted = max((call.responses.granted for call in self._calls.values()), default=0)
        if self.stream_window + most_granted > frames.LARGEST_WINDOW:  # by SETTINGS
            self.fail(ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "too large a window"))
            return
        for call in [call for call in self._calls.values() if call.responses.held_bytes]:
            call.pump()

    def lost(self) -> None:
        """Nobody waits for the calls any more."""
        self._cancel_calls()
        self._connections.discard(self)
        self.gone.set_result(None)

    def check(self, silent_seconds: float, patience_seconds: float) -> None:
        """Look after the client, now and then; see `Wire.check`."""
        self._idle_frames = 0
        super().check(silent_seconds, patience_seconds)

    def fail(self, fault: ConnectionFault) -> None:
        """Say what the client did wrong, and close."""
        logger.debug("%s broke the protocol: %s", self.peer, fault)
        self.send(frames.go_away(self._last_stream, fault.code, str(fault)))
        self.close()
        self._cancel_calls()

    # What calls ask of it

    def forget(self, call: Call) -> None:
        """The call is over."""
        self._calls.pop(call.stream, None)
        if self._is_leaving and not self._calls:
            self.close()

    def linger(self, task: asyncio.Task[None]) -> None:
        """A handler was told to stop; until it has, it counts as a call."""
        self._lingering.add(task)
        task.add_done_callback(self._lingering.discard)

    def hold(self, change_bytes: int) -> None:
        """A call has the server hold so much more, or less."""
        self.held_bytes += change_bytes
        self._held.change(change_bytes)

    def make_room(self) -> None:
        """End the call that holds the most, of several the last that came."""
        if self._calls:
            max(reversed(self._calls.values()), key=lambda call: call.held_bytes).make_room()

    # What the server asks of it

    def leave(self) -> None:
        """Take no new calls, and close once those in flight are done."""
        if self._is_leaving:
            return
        self._is_leaving = True
        self.send(frames.go_away(self._last_stream, ErrorCode.NO_ERROR))
        if not self._calls:
            self.close()

    def end_calls(self, reason: str) -> None:
        """End the calls that are still in flight, whose callers may try elsewhere."""
        for call in list(self._calls.values()):
            call.end_at_once(grpc.StatusCode.UNAVAILABLE, reason)

    # Frames

    def take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Do what a frame asks for; see `Wire.take`."""
        self._check_turn(kind, stream)
        if kind == frames.HEADERS:
            self._head(self._blocks.begin(flags, stream, payload))
        elif kind == frames.CONTINUATION:
            self._head(self._blocks.go_on(flags, payload))
        elif kind == frames.WINDOW_UPDATE:
            self._window_update(stream, payload)
        elif kind == frames.RST_STREAM:
            self._reset(stream, payload)
        elif kind in _OF_THE_CONNECTION and stream != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "that is not said of a stream")
        elif kind == frames.SETTINGS:
            self._settings(flags, payload)
        elif kind == frames.PING:
            self._ping(flags, payload)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client pushes nothing")
        else:  # PRIORITY, GOAWAY, and what we do not know, are to be passed over
            self._idle()

    def take_data(self, flags: int, stream: int, payload: memoryview) -> None:
        """Take what is sent of a message; see `Wire.take_data`."""
        self._check_turn(frames.DATA, stream)
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than was granted")
        if self._receive_window <= CONNECTION_WINDOW // 2:
            self.send(frames.window_update(0, CONNECTION_WINDOW - self._receive_window))
            self._receive_window = CONNECTION_WINDOW
        if flags & frames.PADDED:
            payload = frames.without_padding(payload)
        last = bool(flags & frames.END_STREAM)
        if not payload and not last:
            self._idle()
        if (call := self._call(stream)) is not None:
            call.received(payload, size, last=last)

    def _check_turn(self, kind: int, stream: int) -> None:
        """See that a frame comes when it may."""
        if not self._is_greeted and kind != frames.SETTINGS:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS come first")
        self._blocks.check(kind, stream)

    def _head(self, block: Block | None) -> None:
        if block is None:  # its end has not come
            return
        head = self._heads.read(block.payload)
        if (call := self._calls.get(block.stream)) is not None:  # trailers, which say nothing
            if not block.last:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "trailers that are not the end")
            call.received(NOTHING, 0, last=True)
        elif block.stream > self._newest_stream:
            self._newest_stream = block.stream
            if not self._is_leaving:
                self._last_stream = block.stream
                self._open(block.stream, head, last=block.last)

    def _open(self, stream: int, head: RequestHead, *, last: bool) -> None:
        if len(self._calls) + len(self._lingering) >= MOST_CALLS:
            self.send(frames.reset(stream, ErrorCode.REFUSED_STREAM))
            return
        method = self._find(head.path)
        if method is None or head.http_status != 200 or head.excess_bytes:
            block = refusal(head, self._limits.max_metadata_bytes)
            self.send(frames.header_frames(stream, block, self.max_frame, end_stream=True))
            if not last:
                self.send(frames.reset(stream, ErrorCode.NO_ERROR))
            return
        call = Call(self, stream, head, method, self._limits.max_message_bytes)
        self._calls[stream] = call
        call.begin()
        if last:
            call.received(NOTHING, 0, last=True)

    def _call(self, stream: int) -> Call | None:
        """The call on a stream; None once it is over."""
        if stream > self._newest_stream or stream == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"there was no call on {stream}")
        return self._calls.get(stream)

    def _window_update(self, stream: int, payload: bytes) -> None:
        # Not counted among idle frames: how many come depends on how the client reads, they are not
        # answered, and cost less than a call.
        increment = int.from_bytes(sized(payload, 4)) & frames.LARGEST_WINDOW
        if increment == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a window that grows by nothing")
        if stream == 0:
            was_closed = self.send_window <= 0
            self.send_window = window = self.send_window + increment
            if was_closed:
                self._go_on_soon()
        elif (call := self._call(stream)) is not None:
            call.responses.granted += increment
            window = self.stream_window + call.responses.granted
            call.pump()
        else:
            return
        if window > frames.LARGEST_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "too large a window")

    def _reset(self, stream: int, payload: bytes) -> None:
        sized(payload, 4)
        if (call := self._call(stream)) is not None:
            call.cancel()

    def _settings(self, flags: int, payload: bytes) -> None:
        self._is_greeted = True
        if flags & frames.ACK:
            sized(payload, 0)
            return
        self._idle()
        for number, value in frames.read_settings(payload):
            if number == Setting.INITIAL_WINDOW_SIZE:
                self.stream_window = value
                self._go_on_soon()
            elif number == Setting.MAX_FRAME_SIZE:
                self.max_frame = value
        self.send(frames.frame(frames.SETTINGS, frames.ACK, 0, b""))

    def _ping(self, flags: int, payload: bytes) -> None:
        sized(payload, 8)
        self._idle()
        if not flags & frames.ACK:
            self.send(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _idle(self) -> None:
        """Count a frame that asks for nothing, of which there may be only so many at a time."""
        self._idle_frames += 1
        if self._idle_frames > MOST_IDLE_FRAMES:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames for nothing")

    def _go_on_soon(self) -> None:
        """Let calls go on, once for all frames that came together: there may be many of both."""
        if not self._goes_on:
            self._goes_on = True
            self._loop.call_soon(self.go_on)

    def _cancel_calls(self) -> None:
        for call in list(self._calls.values()):
            call.cancel()
