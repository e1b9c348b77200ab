"""The messages of a call: each has a flag, its length and its bytes."""

import zlib
from collections.abc import Callable

import grpc

PREFIX_BYTES = 5

Message = tuple[bool, bytes | bytearray]  # whether it is compressed


class MessageError(Exception):
    """A message cannot be taken.

    Args:
        code: that its caller gets.
        reason: for the caller.
    """

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class MessageReader:
    """Puts messages together from the pieces that come in.

    Args:
        max_bytes: of a message, also once it is decompressed.
        encoding: of the messages that are compressed.
    """

    __slots__ = ("_encoding", "_max_bytes", "_need", "_partial")

    def __init__(self, max_bytes: int, encoding: str) -> None:
        self._max_bytes = max_bytes
        self._encoding = encoding
        self._partial = bytearray()  # rather than a list: a piece may be of one byte
        self._need = PREFIX_BYTES

    @property
    def held_bytes(self) -> int:
        """Of the message that is not all there."""
        return len(self._partial)

    def feed(self, data: memoryview) -> list[Message]:
        """Take the next piece; returns the messages that it completes.

        Raises:
            MessageError: one is too long, or compressed in a way that cannot be read.
        """
        messages: list[Message] = []
        at, end = 0, len(data)
        if self._partial:
            at = self._fill(data)
            if len(self._partial) < self._need:
                return messages
            messages.append(self._filled())
        while end - at >= PREFIX_BYTES:
            start = at + PREFIX_BYTES
            stop = start + self._length(data, at)
            if stop > end:
                break
            messages.append((data[at] != 0, bytes(data[start:stop])))
            at = stop
        if at < end:
            self._need = PREFIX_BYTES
            self._fill(data[at:])
        return messages

    def _fill(self, data: memoryview) -> int:
        """Take what is missing of one message; returns where that ends."""
        partial = self._partial
        at = 0
        if len(partial) < PREFIX_BYTES:
            at = PREFIX_BYTES - len(partial)
            partial += data[:at]
            if len(partial) < PREFIX_BYTES:
                return at
            self._need = PREFIX_BYTES + self._length(partial, 0)
        stop = at + self._need - len(partial)
        partial += data[at:stop]
        return stop

    def _filled(self) -> Message:
        """The message that has come in pieces."""
        message, self._partial = self._partial, bytearray()
        is_compressed = message[0] != 0
        del message[:PREFIX_BYTES]  # which moves nothing
        return is_compressed, message

    def decompressed(self, data: bytes | bytearray) -> bytes:
        """A message whose flag says that it is compressed.

        Raises:
            MessageError: it is not, or too long.
        """
        try:
            message = _DECOMPRESSORS[self._encoding](data, self._max_bytes + 1)
        except zlib.error as error:
            raise MessageError(
                grpc.StatusCode.INVALID_ARGUMENT, f"the message is not {self._encoding}: {error}"
            ) from error
        if len(message) > self._max_bytes:
            raise self._too_long(len(message))
        return message

    def clear(self) -> None:
        """Forget the message that is not all there."""
        self._partial.clear()

    def _length(self, data: memoryview | bytearray, at: int) -> int:
        """Of the message whose prefix is at a place."""
        flag = data[at]
        if flag > 1 or (flag and self._encoding not in _DECOMPRESSORS):
            raise MessageError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"a message in the encoding {self._encoding!r} with the flag {flag}: "
                f"there are {', '.join(_DECOMPRESSORS)}",
            )
        length = int.from_bytes(data[at + 1 : at + PREFIX_BYTES])
        if length > self._max_bytes:
            raise self._too_long(length)
        return length

    def _too_long(self, length: int) -> MessageError:
        # The code is that of a full queue too: clients know it by grpc's words, "larger than max".
        return MessageError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"a message of {length} bytes or more is larger than max ({self._max_bytes})",
        )


def framed(message: bytes) -> bytes:
    """A message as it is sent."""
    return b"\0" + len(message).to_bytes(4) + message


def _inflate(window_bits: int) -> Callable[[bytes | bytearray, int], bytes]:
    def inflate(data: bytes | bytearray, max_bytes: int) -> bytes:
        stream = zlib.decompressobj(window_bits)
        message = stream.decompress(data, max_bytes)
        if not stream.eof and len(message) < max_bytes:
            raise zlib.error("it is cut short")
        return message

    return inflate


_DECOMPRESSORS = {"gzip": _inflate(31), "deflate": _inflate(15)}
