"""One call: what its client sends, the handler that it is given to, and what it answers."""

import asyncio
import logging
import math
from collections import deque
from contextlib import aclosing
from typing import Any, NoReturn, Protocol

import grpc

from convlens.server.http2.frames import (
    DATA,
    ConnectionFault,
    ErrorCode,
    frame,
    header_frames,
    reset,
    window_update,
)
from convlens.server.http2.heads import RESPONSE_FIELDS, Metadata, RequestHead, status_fields
from convlens.server.http2.messages import MessageError, MessageReader, framed
from convlens.server.http2.method import Method

RECEIVE_WINDOW = 1 << 20  # bytes of a call that its client may send before more are granted

_INVALID = grpc.StatusCode.INVALID_ARGUMENT

logger = logging.getLogger(__name__)


class AbortError(Exception):
    """A handler has ended its call; see `Call.abort`.

    Args:
        code: that the caller gets.
    """

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code.name)
        self.code = code


class CallWire(Protocol):
    """What a call needs of its connection."""

    peer: str
    max_frame: int
    send_window: int

    is_writable: bool

    def send(self, frames: bytes) -> None:
        """Send frames, after those before."""

    def forget(self, call: "Call") -> None:
        """The call is over."""


class Call:
    """One call, on one stream of a connection; handlers know it as their context.

    Args:
        wire: its connection.
        stream: its number there.
        head: its headers.
        method: that it asks for.
        max_message_bytes: of each of its messages.
        send_window: bytes that its client takes before it grants more.
    """

    __slots__ = (
        "_client_is_done",
        "_deadline",
        "_has_answered",
        "_head",
        "_is_over",
        "_loop",
        "_messages",
        "_method",
        "_output",
        "_reader",
        "_timer",
        "_trailers",
        "_trailing_metadata",
        "_ungranted",
        "_wants_request",
        "_wants_room",
        "_wire",
        "send_window",
        "stream",
        "task",
    )

    def __init__(
        self,
        wire: CallWire,
        stream: int,
        head: RequestHead,
        method: Method,
        max_message_bytes: int,
        send_window: int,
    ) -> None:
        self._wire = wire
        self.stream = stream
        self._head = head
        self._method = method
        self._reader = MessageReader(max_message_bytes, head.encoding)
        self.send_window = send_window
        self.task: asyncio.Task[None] | None = None
        self._messages: deque[bytes] = deque()  # that the handler has not read
        self._ungranted = 0
        self._client_is_done = False
        self._output = bytearray()  # that the client does not take yet
        self._has_answered = False
        self._trailing_metadata: Metadata = ()
        self._trailers = b""  # once the handler is done
        self._is_over = False
        # The handler may read and write at the same time.
        self._wants_request: asyncio.Future[None] | None = None
        self._wants_room: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = math.inf

    # What the connection tells it

    def begin(self) -> None:
        """The call has come in."""
        timeout_seconds = self._head.timeout_seconds
        if timeout_seconds < math.inf:
            self._deadline = self._loop.time() + timeout_seconds
            self._timer = self._loop.call_at(self._deadline, self._expire)
        if self._method.streams_requests:
            self._start(self)

    def received(self, data: bytes, size: int, *, last: bool) -> None:
        """Take what the client sends; with its padding it has the given size.

        Raises:
            ConnectionFault: it is more than the client may send.
        """
        if self._is_over or self._client_is_done:
            return
        self._ungranted += size
        if self._ungranted > RECEIVE_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than was granted")
        self._client_is_done = last
        try:
            if data:
                self._messages.extend(self._reader.feed(data))
            if last and not self._reader.is_between_messages:
                raise MessageError(
                    grpc.StatusCode.INVALID_ARGUMENT, "the last message is cut short"
                )
            if not self._method.streams_requests:
                self._take_the_one(last=last)
        except MessageError as error:
            self.end_at_once(error.code, str(error))
            return
        if self._messages or last:
            _wake(self._wants_request)
        self._grant()

    def pump(self) -> None:
        """Send what the client takes by now of what there is to send."""
        wire = self._wire
        while self._output:
            size = min(len(self._output), self.send_window, wire.send_window, wire.max_frame)
            if size <= 0 or not wire.is_writable:
                return
            wire.send(frame(DATA, 0, self.stream, bytes(self._output[:size])))
            del self._output[:size]
            self.send_window -= size
            wire.send_window -= size
        if self._trailers:
            self._send_trailers()
        else:
            _wake(self._wants_room)

    def end_at_once(self, code: grpc.StatusCode, message: str) -> None:
        """End the call without its handler, or over its head."""
        self._end(code, message)
        if self.task is not None:
            self.task.cancel()

    def cancel(self) -> None:
        """The client went away, or its call did: nothing is to be answered any more."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        if self.task is not None:
            self.task.cancel()

    @property
    def has_output(self) -> bool:
        """Whether the client must take something before the call can go on."""
        return bool(self._output)

    # What its handler asks of it: the part of `grpc.aio.ServicerContext` that is needed

    def invocation_metadata(self) -> Metadata:
        """The caller's metadata."""
        return self._head.metadata

    def peer(self) -> str:
        """The caller's address, as in "ipv4:10.0.0.7:41234"."""
        return self._wire.peer

    def time_remaining(self) -> float | None:
        """Seconds to the deadline, negative once it has passed; None where there is none."""
        return None if self._timer is None else self._deadline - self._loop.time()

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Set what follows the responses."""
        self._trailing_metadata = metadata

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> NoReturn:
        """End the call with an error.

        Raises:
            AbortError: always.
        """
        self._trailing_metadata += trailing_metadata
        self._end(code, details)
        raise AbortError(code)

    async def write(self, response: Any) -> None:
        """Send a response; waits until the client has taken it."""
        self._put(response)
        while self._output and not self._is_over:
            self._wants_room = self._loop.create_future()
            await self._wants_room

    def __aiter__(self) -> "Call":
        """The requests of a stream, as they come in."""
        return self

    async def __anext__(self) -> Any:
        """The next request."""
        while not self._messages:
            if self._client_is_done:
                raise StopAsyncIteration
            self._wants_request = self._loop.create_future()
            await self._wants_request
        message = self._messages.popleft()
        self._grant()
        return self._method.read(message)

    # How it goes

    def _take_the_one(self, *, last: bool) -> None:
        """Answer the request of a call that has one, once it is all there."""
        if len(self._messages) > 1 or (last and not self._messages):
            raise MessageError(
                grpc.StatusCode.UNIMPLEMENTED, "this method is asked with exactly one message"
            )
        if last:
            self._start(self._method.read(self._messages.popleft()))

    def _start(self, request: Any) -> None:
        self.task = self._loop.create_task(self._run(request))

    async def _run(self, request: Any) -> None:
        method = self._method
        try:
            if method.generates:
                async with aclosing(method.behavior(request, self)) as responses:
                    async for response in responses:
                        await self.write(response)
            else:
                response = await method.behavior(request, self)
                if method.responds:
                    self._put(response)
            self._end(grpc.StatusCode.OK)
        except AbortError:
            pass  # its caller knows
        except asyncio.CancelledError:
            self._end(grpc.StatusCode.CANCELLED)  # where it was not over before
            raise
        except Exception:
            logger.exception("%s failed", self._head.path)
            self._end(grpc.StatusCode.UNKNOWN, "internal error")

    def _put(self, response: Any) -> None:
        if self._is_over:
            return
        if not self._has_answered:
            self._has_answered = True
            self._wire.send(header_frames(self.stream, RESPONSE_FIELDS, self._wire.max_frame))
        self._output += framed(self._method.write(response))
        self.pump()

    def _end(self, code: grpc.StatusCode, message: str = "") -> None:
        """Let the trailers follow what has been written, which an error makes worthless."""
        if self._is_over:
            return
        self._is_over = True
        self._trailers = status_fields(code.value[0], message, self._trailing_metadata)
        if code is not grpc.StatusCode.OK:
            self._output.clear()
        self.pump()

    def _expire(self) -> None:
        if self._is_over:  # answered in time, which the client does not read
            self._wire.send(reset(self.stream, ErrorCode.CANCEL))
            self._wire.forget(self)
        else:
            self.end_at_once(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")

    def _send_trailers(self) -> None:
        block = self._trailers if self._has_answered else RESPONSE_FIELDS + self._trailers
        frames = header_frames(self.stream, block, self._wire.max_frame, end_stream=True)
        if not self._client_is_done:
            frames += reset(self.stream, ErrorCode.NO_ERROR)
        self._wire.send(frames)
        if self._timer is not None:
            self._timer.cancel()
        self._wire.forget(self)

    def _grant(self) -> None:
        """Let the client send more, unless the handler has yet to read what it sent."""
        if (
            self._ungranted >= RECEIVE_WINDOW // 2
            and not self._messages
            and not self._client_is_done
        ):
            self._wire.send(window_update(self.stream, self._ungranted))
            self._ungranted = 0


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
