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

    __slots__ = ("_encoding", "_have", "_max_bytes", "_need", "_parts")

    def __init__(self, max_bytes: int, encoding: str) -> None:
        self._max_bytes = max_bytes
        self._encoding = encoding
        self._parts: list[bytes] = []
        self._have = 0
        self._need = PREFIX_BYTES

    @property
    def is_between_messages(self) -> bool:
        """Whether nothing of a next message has come."""
        return self._have == 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next piece; returns the messages that it completes.

        Raises:
            MessageError: one is too long, or compressed in a way that cannot be read.
        """
        self._parts.append(data)
        self._have += len(data)
        if self._have < self._need:
            return []
        buffer = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        messages = []
        at = 0
        while True:
            self._need = PREFIX_BYTES
            if len(buffer) - at < PREFIX_BYTES:
                break
            length = int.from_bytes(buffer[at + 1 : at + PREFIX_BYTES])
            if length > self._max_bytes:
                raise self._too_long(length)
            self._need += length
            if len(buffer) - at < self._need:
                break
            messages.append(self._message(buffer[at], buffer[at + PREFIX_BYTES : at + self._need]))
            at += self._need
        rest = buffer[at:]
        self._parts, self._have = [rest] if rest else [], len(rest)
        return messages

    def _message(self, flag: int, data: bytes) -> bytes:
        if flag == 0:
            return data
        decompress = _DECOMPRESSORS.get(self._encoding)
        if flag != 1 or decompress is None:
            raise MessageError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"a message in the encoding {self._encoding!r} with the flag {flag}: "
                f"there are {', '.join(_DECOMPRESSORS)}",
            )
        try:
            message = decompress(data, self._max_bytes + 1)
        except zlib.error as error:
            raise MessageError(
                grpc.StatusCode.INVALID_ARGUMENT, f"the message is not {self._encoding}: {error}"
            ) from error
        if len(message) > self._max_bytes:
            raise self._too_long(len(message))
        return message

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
