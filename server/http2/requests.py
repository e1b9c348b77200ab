"""What the client of one call sends: messages that wait until the handler reads them."""

import asyncio
from collections import deque

import grpc

from convlens.server.http2.frames import ConnectionFault, ErrorCode
from convlens.server.http2.messages import Message, MessageError, MessageReader

RECEIVE_WINDOW = 1 << 20  # bytes of a call that its client may send before more are granted
MESSAGE_BYTES = 128  # that it takes to hold a message, beside its own


class Requests:
    """The messages of one call, in the order they come.

    Args:
        max_message_bytes: of each.
        encoding: of those that are compressed.

    Attributes:
        is_complete: whether the client has sent its last.
    """

    __slots__ = ("_bytes", "_more", "_queue", "_reader", "_ungranted", "is_complete")

    def __init__(self, max_message_bytes: int, encoding: str) -> None:
        self.is_complete = False
        self._reader = MessageReader(max_message_bytes, encoding)
        self._queue: deque[Message] = deque()
        self._bytes = 0  # of the queue
        self._ungranted = 0
        self._more: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def held_bytes(self) -> int:
        """Of what has come and has not been read."""
        return self._bytes + self._reader.held_bytes

    def take(self, data: memoryview, size: int, *, last: bool) -> None:
        """Take what the client sends; with its padding it has the given size.

        Raises:
            ConnectionFault: it is more than the client may send.
            MessageError: it is no message that can be taken.
        """
        if self.is_complete:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "more after the end of a call")
        self._ungranted += size
        if self._ungranted > RECEIVE_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than was granted")
        self.is_complete = last
        if data:
            for message in self._reader.feed(data):
                self._queue.append(message)
                self._bytes += len(message[1]) + MESSAGE_BYTES
        if last and self._reader.held_bytes:
            raise MessageError(grpc.StatusCode.INVALID_ARGUMENT, "the last message is cut short")
        if self._queue or last:
            self._wake()

    def grant(self) -> int:
        """How many bytes more the client is to be granted: none while there is some to be read."""
        if self._ungranted < RECEIVE_WINDOW // 2 or self._queue or self.is_complete:
            return 0
        granted, self._ungranted = self._ungranted, 0
        return granted

    async def wait(self) -> bool:
        """Wait for a message; returns whether there is one, rather than the end."""
        while not self._queue:
            if self.is_complete:
                return False
            self._more = asyncio.get_running_loop().create_future()
            await self._more
        return True

    def pop(self) -> Message:
        """The next message, as it came."""
        message = self._queue.popleft()
        self._bytes -= len(message[1]) + MESSAGE_BYTES
        return message

    async def unpacked(self, message: Message) -> bytes | bytearray:
        """The bytes of a message. Unpacked in a thread: they may be a thousand times as many.

        Raises:
            MessageError: it cannot be decompressed.
        """
        is_compressed, data = message
        return await asyncio.to_thread(self._reader.decompressed, data) if is_compressed else data

    def clear(self) -> None:
        """Forget what has come."""
        self._queue.clear()
        self._bytes = 0
        self._reader.clear()

    def close(self) -> None:
        """Forget what has come; nothing more is to come."""
        if self.held_bytes:
            self.clear()
        self.is_complete = True
        self._wake()

    def _wake(self) -> None:
        if self._more is not None and not self._more.done():
            self._more.set_result(None)
