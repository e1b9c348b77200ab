"""A connection that asks one gRPC method, and takes little of the processors meanwhile.

It speaks HTTP/2 itself: a request is packed once, and is sent by one write with its stream filled
in. Blocks of headers that come back are kept, and unpacked when the load is over. Like any client
of gRPC it keeps to the windows and limits that the server announces, and gives a call up, and says
so to the server, at its deadline. A request is sent whole: the window of the connection must hold
a few of them.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import grpc
from hpack import Decoder
from packed_request import PackedRequest

from convlens.server.http2 import frames
from convlens.server.http2.frames import ErrorCode, Setting

STATUS = {code.value[0]: code.name for code in grpc.StatusCode}
# What a stream that is reset without a status means to gRPC; all others are INTERNAL.
RESET_STATUS: Mapping[int, str] = {
    ErrorCode.REFUSED_STREAM: "UNAVAILABLE",
    ErrorCode.CANCEL: "CANCELLED",
    ErrorCode.ENHANCE_YOUR_CALM: "RESOURCE_EXHAUSTED",
}
NO_DEADLINE = 86_400.0  # seconds: as good as none
_TIMER_SECONDS = 1e-3  # that uvloop's timers may be early


@dataclass(slots=True, eq=False)
class Call:
    """One request, and what became of it.

    Attributes:
        request: its number among the sender's.
        asked_at: when its deadline began to run, by `time.perf_counter`.
        deadline_seconds: from then on.
        ended: is called at its end, before its status is known.
        sent_at: later than `asked_at` where the server's windows had no room for it.
        ended_at: when the answer was complete, or the deadline had passed.
        code: the name of its gRPC status; known once it is unpacked.
        left_us: what the server's trailer says of the time until the deadline, where it does.
    """

    request: int
    asked_at: float
    deadline_seconds: float
    ended: Callable[["Call"], None] | None
    sent_at: float = 0.0
    ended_at: float = 0.0
    code: str = ""
    left_us: int | None = None
    stream: int = 0
    timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        """From the asking to the end."""
        return self.ended_at - self.asked_at

    @property
    def waited_seconds(self) -> float:
        """In the sender, for room."""
        return (self.sent_at or self.ended_at) - self.asked_at

    @property
    def is_late(self) -> bool:
        """Whether its end came no sooner than its deadline."""
        return self.seconds >= self.deadline_seconds


class Connection(asyncio.Protocol):
    """One connection to the server.

    Args:
        head: the packed headers of each request.
        messages: that may be sent.

    Attributes:
        ready: is done once the server has said what it takes.
    """

    def __init__(self, head: bytes, messages: Sequence[bytes]) -> None:
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self._head, self._messages = head, messages
        self._packed: list[PackedRequest] = []
        self._transport: asyncio.Transport | None = None
        self._input = b""
        self._calls: dict[int, Call] = {}
        self._waiting: deque[Call] = deque()
        self._next_stream = 1
        self._window = self._stream_window = frames.DEFAULT_WINDOW
        self._max_calls = math.inf
        self._is_writable = True
        self._ungranted = 0  # bytes of data that came since the server was granted more
        self._decoder = Decoder()
        self._block, self._is_last_block = b"", False
        self._blocks: list[tuple[Call | None, bytes]] = []  # in their order: HPACK has a state

    def ask(self, call: Call) -> None:
        """Send a request, as soon as there is room for it.

        Raises:
            ConnectionError: the server has hung up.
        """
        if self._transport is None:
            raise ConnectionError("the server has hung up")
        if call.deadline_seconds < NO_DEADLINE:
            after = call.deadline_seconds + _TIMER_SECONDS
            call.timer = self._loop.call_later(after, self._give_up, call)
        self._waiting.append(call)
        self._send_waiting()

    def unpack(self) -> None:
        """Read the blocks of headers that have come, in their order."""
        for call, block in self._blocks:
            fields = dict(self._decoder.decode(block, raw=True))
            if call is None or call.code:
                continue
            if status := fields.get(b"grpc-status"):
                call.code = STATUS[int(status)]
            if left := fields.get(b"convlens-left-us"):
                call.left_us = int(left)
        self._blocks.clear()

    def close(self) -> None:
        """Go away."""
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._write(frames.PREFACE + frames.settings({Setting.ENABLE_PUSH: 0}))

    def data_received(self, data: bytes) -> None:
        """Take the frames that are whole."""
        if self._input:
            data = self._input + data
        at = 0
        while len(data) - at >= frames.HEAD_BYTES:
            high, low, kind, flags, stream = frames.HEAD.unpack_from(data, at)
            start = at + frames.HEAD_BYTES
            end = start + (high << 8 | low)
            if end > len(data):
                break
            self._take(kind, flags, stream & frames.LARGEST_WINDOW, data[start:end])
            at = end
        self._input = data[at:]

    def pause_writing(self) -> None:
        """The server does not read: requests wait here."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """The server reads again."""
        self._is_writable = True
        self._send_waiting()

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing more is answered."""
        self._transport = None
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionError("the server hung up"))
        for call in [*self._calls.values(), *self._waiting]:
            self._end(call, "UNAVAILABLE")

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        call = self._calls.get(stream)
        if kind == frames.DATA:
            self._grant(len(payload))
            if flags & frames.END_STREAM and call is not None:
                self._end(call, "UNKNOWN")  # there was to be a status
        elif kind in (frames.HEADERS, frames.CONTINUATION):
            if kind == frames.HEADERS:
                self._block, self._is_last_block = b"", bool(flags & frames.END_STREAM)
            self._block += frames.without_padding(payload) if flags & frames.PADDED else payload
            if flags & frames.END_HEADERS:
                self._blocks.append((call, self._block))
                if self._is_last_block and call is not None:
                    self._end(call)
        elif kind == frames.RST_STREAM and call is not None:
            self._end(call, RESET_STATUS.get(int.from_bytes(payload), "INTERNAL"))
        elif kind == frames.WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload)
            self._send_waiting()
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            self._settings(dict(frames.read_settings(payload)))
        elif kind == frames.PING and not flags & frames.ACK:
            self._write(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _settings(self, values: dict[int, int]) -> None:
        """Cut the requests as the server takes them."""
        self._max_calls = values.get(Setting.MAX_CONCURRENT_STREAMS, self._max_calls)
        self._stream_window = values.get(Setting.INITIAL_WINDOW_SIZE, self._stream_window)
        max_frame = values.get(Setting.MAX_FRAME_SIZE, frames.SMALLEST_MAX_FRAME)
        self._packed = [PackedRequest(self._head, each, max_frame) for each in self._messages]
        self._write(frames.frame(frames.SETTINGS, frames.ACK, 0, b""))
        largest = max(packed.body_bytes for packed in self._packed)
        if largest > self._stream_window:
            raise ValueError(f"a call takes {self._stream_window} bytes at once, of {largest}")
        if not self.ready.done():
            self.ready.set_result(None)

    def _send_waiting(self) -> None:
        while self._waiting and self._is_writable and len(self._calls) < self._max_calls:
            call = self._waiting[0]
            packed = self._packed[call.request]
            if packed.body_bytes > self._window:
                break
            self._waiting.popleft()
            self._window -= packed.body_bytes
            call.stream, self._next_stream = self._next_stream, self._next_stream + 2
            self._calls[call.stream] = call
            call.sent_at = time.perf_counter()
            left = call.deadline_seconds - (call.sent_at - call.asked_at)
            self._write(packed.fill(call.stream, max(1, math.ceil(left * 1e3))))

    def _give_up(self, call: Call) -> None:
        """The deadline has passed."""
        if call.stream:
            self._write(frames.reset(call.stream, ErrorCode.CANCEL))
        else:
            self._waiting.remove(call)
        self._end(call, "DEADLINE_EXCEEDED")

    def _end(self, call: Call, code: str = "") -> None:
        call.ended_at, call.code = time.perf_counter(), code
        self._calls.pop(call.stream, None)
        if call.timer is not None:
            call.timer.cancel()
        if call.ended is not None:
            call.ended(call)
        self._send_waiting()

    def _grant(self, size: int) -> None:
        self._ungranted += size
        if self._ungranted > frames.DEFAULT_WINDOW // 2:
            self._write(frames.window_update(0, self._ungranted))
            self._ungranted = 0

    def _write(self, data: bytes | bytearray) -> None:
        if self._transport is not None:
            self._transport.write(data)
