"""The frames of HTTP/2 (RFC 9113, section 6): their types, and those that a server sends."""

import struct
from enum import IntEnum
from typing import TypeVar

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
SMALLEST_MAX_FRAME = 16_384  # the length of a payload that everybody takes
_FRAME_SIZES = range(SMALLEST_MAX_FRAME, 2**24)
DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1
_MOST_REASON_BYTES = 256  # it may quote what the client sent

# The length of the payload in two parts, type, flags, stream.
HEAD = struct.Struct(">HBBBL")
_SETTING = struct.Struct(">HL")

_Payload = TypeVar("_Payload", bytes, memoryview)

# Types
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)

# Flags
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20


class Setting(IntEnum):
    """What both sides tell each other of what they take."""

    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(Exception):  # noqa: N818 - the term of the protocol is "connection error"
    """The client broke the protocol so that the connection cannot go on.

    Args:
        code: that it is told.
        reason: for whoever looks for the fault.
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame with its payload."""
    length = len(payload)
    return HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


def settings(values: dict[Setting, int]) -> bytes:
    """What the server takes."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """What the other side takes, by the number of the setting: there are some that we do not know.

    Raises:
        ConnectionFault: the payload is no list of settings, or a value is not allowed.
    """
    if len(payload) % _SETTING.size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of no whole number of settings")
    values = list(_SETTING.iter_unpack(payload))
    for number, value in values:
        if number == Setting.INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "too large a window")
        if number == Setting.MAX_FRAME_SIZE and value not in _FRAME_SIZES:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"frames of {value} bytes")
        if number == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH is {value}")
    return values


def window_update(stream: int, increment: int) -> bytes:
    """Let the client send so many bytes more; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4))


def reset(stream: int, code: ErrorCode) -> bytes:
    """End a stream at once."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4))


def go_away(last_stream: int, code: ErrorCode, reason: str = "") -> bytes:
    """Say that streams after this one are not answered."""
    said = reason.encode()[:_MOST_REASON_BYTES]
    return frame(GOAWAY, 0, 0, last_stream.to_bytes(4) + code.to_bytes(4) + said)


def header_frames(stream: int, block: bytes, max_frame: int, *, end_stream: bool = False) -> bytes:
    """A block of headers, in as many frames as it takes."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= max_frame:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    parts = [block[at : at + max_frame] for at in range(0, len(block), max_frame)]
    last = len(parts) - 1
    return frame(HEADERS, flags, stream, parts[0]) + b"".join(
        frame(CONTINUATION, END_HEADERS if number == last else 0, stream, part)
        for number, part in enumerate(parts[1:], start=1)
    )


def without_padding(payload: _Payload) -> _Payload:
    """The payload of a frame that is PADDED.

    Raises:
        ConnectionFault: there is more padding than payload.
    """
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def sized(payload: bytes, length: int) -> bytes:
    """A payload that has the length that its frame is to have.

    Raises:
        ConnectionFault: it has not.
    """
    if len(payload) != length:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a payload of {len(payload)} bytes")
    return payload
