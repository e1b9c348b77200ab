"""The messages of a call: each has a flag, its length and its bytes."""

import zlib
from collections.abc import Callable

import grpc

PREFIX_BYTES = 5


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

    def feed(self, data: bytes) -> list[tuple[bool, bytes]]:
        """Take the next piece; returns the messages that it completes, and which are compressed.

        Raises:
            MessageError: one is too long, or compressed in a way that cannot be read.
        """
        partial = self._partial
        if partial:
            partial += data
            if len(partial) < self._need:
                return []
            data = bytes(partial)
            partial.clear()
        messages = []
        at, end = 0, len(data)
        while True:
            self._need = PREFIX_BYTES
            if end - at < PREFIX_BYTES:
                break
            self._need += self._length(data, at)
            if end - at < self._need:
                break
            messages.append((data[at] != 0, data[at + PREFIX_BYTES : at + self._need]))
            at += self._need
        if at < end:
            partial += data[at:]
        return messages

    def decompressed(self, data: bytes) -> bytes:
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

    def _length(self, data: bytes, at: int) -> int:
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
        return MessageError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"a message may have {self._max_bytes} bytes, this one has {length} or more",
        )


def framed(message: bytes) -> bytes:
    """A message as it is sent."""
    return b"\0" + len(message).to_bytes(4) + message


def _inflate(window_bits: int) -> Callable[[bytes, int], bytes]:
    def inflate(data: bytes, max_bytes: int) -> bytes:
        stream = zlib.decompressobj(window_bits)
        message = stream.decompress(data, max_bytes)
        if not stream.eof and len(message) < max_bytes:
            raise zlib.error("it is cut short")
        return message

    return inflate


_DECOMPRESSORS = {"gzip": _inflate(31), "deflate": _inflate(15)}
