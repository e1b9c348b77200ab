"""One call: what its client sends, the handler that it is given to, and what it answers."""

import asyncio
import logging
import math
from contextlib import aclosing
from typing import Any, NoReturn, Protocol

import grpc

from convlens.server.http2.frames import ErrorCode, reset, window_update
from convlens.server.http2.heads import Metadata, RequestHead, status_fields
from convlens.server.http2.messages import Message, MessageError
from convlens.server.http2.method import AbortError, Method
from convlens.server.http2.requests import Requests
from convlens.server.http2.responses import Responses, ResponseWire

logger = logging.getLogger(__name__)


class CallWire(ResponseWire, Protocol):
    """What a call needs of its connection.

    Attributes:
        peer: the address of the client.
    """

    peer: str

    def hold(self, change_bytes: int) -> None:
        """A call has the server hold so much more, or less."""

    def forget(self, call: "Call") -> None:
        """The call is over."""

    def linger(self, task: asyncio.Task[None]) -> None:
        """A handler was told to stop, and has not yet."""


class Call:
    """One call, on one stream of a connection; handlers know it as their context.

    Args:
        wire: its connection.
        stream: its number there.
        head: its headers.
        method: that it asks for.
        max_message_bytes: of each of its messages.

    Attributes:
        stream: its number.
        responses: what it answers.
        held_bytes: that it has the server hold.
    """

    __slots__ = (
        "_deadline",
        "_head",
        "_is_over",
        "_loop",
        "_method",
        "_requests",
        "_task",
        "_timer",
        "_trailers",
        "_trailing_metadata",
        "_wire",
        "held_bytes",
        "responses",
        "stream",
    )

    def __init__(
        self, wire: CallWire, stream: int, head: RequestHead, method: Method, max_message_bytes: int
    ) -> None:
        self.stream = stream
        self.responses = Responses(wire, stream)
        self._wire = wire
        self._head = head
        self._method = method
        self._requests = Requests(max_message_bytes, head.encoding)
        self.held_bytes = 0
        self._trailing_metadata: Metadata = ()
        self._trailers: bytes | None = None  # once the handler is done
        self._is_over = False
        self._task: asyncio.Task[None] | None = None
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
            self._task = self._loop.create_task(self._run(None))

    def received(self, data: memoryview, size: int, *, last: bool) -> None:
        """Take what the client sends; with its padding it has the given size.

        Raises:
            ConnectionFault: it is more than the client may send.
        """
        try:
            self._requests.take(data, size, last=last)
            if self._is_over:  # and only its answer has yet to be taken
                self._requests.clear()
            elif not self._method.streams_requests:
                self._start_the_one(last=last)
        except MessageError as error:
            self.end_at_once(error.code, str(error))
            return
        self._note_held()
        self._grant()

    def pump(self) -> None:
        """Send what the client takes by now of what there is to send."""
        is_all = self.responses.pump()
        self._note_held()
        if is_all and self._trailers is not None:
            self._finish(self._trailers)

    def end_at_once(self, code: grpc.StatusCode, message: str) -> None:
        """End the call without its handler, or over its head."""
        self._end(code, message)
        self._stop()

    def cancel(self) -> None:
        """The client went away, or its call did: nothing is to be answered any more."""
        self._is_over = True
        self._stop()
        self._leave()

    def make_room(self) -> None:
        """Hold nothing any more: there is too much of it."""
        if self._is_over:
            self._give_up()
        else:
            self.end_at_once(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "the server holds too many messages, and the most of this client's",
            )

    # What its handler asks of it: the part of `grpc.aio.ServicerContext` that is needed

    def invocation_metadata(self) -> Metadata:
        """The caller's metadata."""
        return self._head.metadata

    def peer(self) -> str:
        """The caller's address, as in "ipv4:10.0.0.7:41234"."""
        return self._wire.peer

    def time_remaining(self) -> float | None:
        """Seconds to the deadline, 0 or less once it has passed; None where there is none."""
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
        await self.responses.taken()

    def __aiter__(self) -> "Call":
        """The requests of a stream, as they come in."""
        return self

    async def __anext__(self) -> Any:
        """The next request."""
        if not await self._requests.wait():
            raise StopAsyncIteration
        message = self._requests.pop()
        self._note_held()
        self._grant()
        try:
            return self._method.read(await self._requests.unpacked(message))
        except MessageError as error:
            self.end_at_once(error.code, str(error))  # the handler may read in another task
            raise AbortError(error.code) from error

    # How it goes

    def _start_the_one(self, *, last: bool) -> None:
        """Answer the request of a call that has one, once it is all there."""
        requests = len(self._requests)
        if requests > 1 or (last and not requests):
            raise MessageError(
                grpc.StatusCode.UNIMPLEMENTED, "this method is asked with exactly one message"
            )
        if last:
            self._task = self._loop.create_task(self._run(self._requests.pop()))

    async def _run(self, message: Message | None) -> None:
        """Run the handler, with the one request or else with all that come."""
        method = self._method
        try:
            request: Any = self
            if message is not None:
                request = method.read(await self._requests.unpacked(message))
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
        except MessageError as error:
            self._end(error.code, str(error))
        except asyncio.CancelledError:
            self._end(grpc.StatusCode.CANCELLED)  # where it was not over before
            raise
        except Exception:
            logger.exception("%s failed", self._head.path)
            self._end(grpc.StatusCode.UNKNOWN, "internal error")

    def _put(self, response: Any) -> None:
        if not self._is_over:
            self.responses.put(self._method.write(response))
            self.pump()

    def _end(self, code: grpc.StatusCode, message: str = "") -> None:
        """Let the trailers follow what has been written, which an error makes worthless."""
        if self._is_over:
            return
        self._trailers = status_fields(code.value[0], message, self._trailing_metadata)
        self._is_over = True
        if code is not grpc.StatusCode.OK:
            self.responses.clear()
        self.pump()

    def _expire(self) -> None:
        self._deadline = min(self._deadline, self._loop.time())  # timers may be a little early
        if self._is_over:
            self._give_up()
        else:
            self.end_at_once(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")

    def _give_up(self) -> None:
        """Reset a call that was answered, where the client does not take the answer."""
        self._wire.send(reset(self.stream, ErrorCode.CANCEL))
        self._leave()

    def _finish(self, trailers: bytes) -> None:
        self.responses.end(trailers)
        if not self._requests.is_complete:
            self._wire.send(reset(self.stream, ErrorCode.NO_ERROR))
        self._leave()

    def _stop(self) -> None:
        """Stop the handler, which may take its time."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self._wire.linger(self._task)

    def _leave(self) -> None:
        """Hold nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._requests.close()
        self.responses.clear()
        self._note_held()
        self._wire.forget(self)

    def _note_held(self) -> None:
        """Note what the call has the server hold; too much of it ends a call, maybe this one."""
        held_bytes = self._requests.held_bytes + self.responses.held_bytes
        change_bytes = held_bytes - self.held_bytes
        if change_bytes:
            self.held_bytes = held_bytes
            self._wire.hold(change_bytes)

    def _grant(self) -> None:
        """Let the client send more, unless the handler has yet to read what it sent."""
        granted = self._requests.grant()
        if granted and not self._is_over:
            self._wire.send(window_update(self.stream, granted))
