"""The headers of calls: a request's are read, a response's and its trailers are written."""

import base64
import binascii
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

import grpc
from hpack import Decoder, HPACKError
from hpack.table import HeaderTable

from convlens.server.http2.frames import ConnectionFault, ErrorCode

KNOWN_BLOCKS = 64  # of headers that a connection remembers
LARGEST_KNOWN_HEAD = 4096  # bytes, unpacked
DECODED_TIMES = 8  # as much as the limit is read, so that its excess can be answered with a reason
BYTES_A_FIELD = 32  # that RFC 9113 adds to those of its name and its value

_UNIT_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT_DIGITS = 8
# Of gRPC, rather than of the caller.
_OWN = frozenset(("te", "content-type", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding"))
_UNESCAPED = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_MOST_CHARACTERS = 1024  # of a message: clients take few bytes of trailers
_MOST_PATH_CHARACTERS = 100  # that are quoted
_FORBIDDEN = re.compile("[\0\r\n]")  # in a value, by RFC 9113, section 8.2.1
_RESIZES = frozenset(bytes((byte,)) for byte in range(0x20, 0x40))  # begin a change of the table
_INDEXED_STATUS_200 = b"\x88"  # of HPACK's static table

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What the headers of a call say.

    Attributes:
        path: "/package.Service/Method".
        timeout_seconds: from its coming in to its deadline; infinite where it has none.
        encoding: of compressed messages.
        metadata: of the caller, in the order it was sent; keys ending in "-bin" have bytes.
        http_status: 200, or why HTTP refuses it.
        error: what is wrong with it; "" where nothing is.
        excess_bytes: of the metadata, beyond the limit.
    """

    path: str
    timeout_seconds: float
    encoding: str
    metadata: Metadata
    http_status: int = 200
    error: str = ""
    excess_bytes: int = 0


class HeadReader:
    """Reads the headers of one connection's calls.

    A client sends the same few blocks of bytes again and again. What one means depends on the table
    that both sides keep, so they are remembered for as long as it does not change.

    Args:
        max_bytes: of a call's headers, counted as RFC 9113 does.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._decoder = Decoder(max_header_list_size=DECODED_TIMES * max_bytes)
        self._table = _CountingTable()
        self._decoder.header_table = self._table
        self._known: dict[bytes, RequestHead] = {}

    def read(self, block: bytes) -> RequestHead:
        """The head that a block stands for.

        Raises:
            ConnectionFault: the block cannot be read; those after it could not be, either.
        """
        head = self._known.get(block)
        if head is not None:
            return head
        additions = self._table.additions
        try:
            fields = list(self._decoder.decode(block, raw=True))
        except HPACKError as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(error)) from error
        size = sum(len(name) + len(value) + BYTES_A_FIELD for name, value in fields)
        head = _head(fields, max(0, size - self._max_bytes))
        if self._table.additions != additions or block[:1] in _RESIZES:
            self._known.clear()
        elif size <= LARGEST_KNOWN_HEAD:
            if len(self._known) == KNOWN_BLOCKS:
                self._known.clear()
            self._known[block] = head
        return head


class _CountingTable(HeaderTable):
    """HPACK's table, which tells what has been added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.additions = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.additions += 1
        super().add(name, value)


def _head(raw: Iterable[tuple[bytes, bytes]], excess_bytes: int) -> RequestHead:
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]
    own = dict(fields)
    path = own.get(":path", "")
    try:
        if own.get(":method") != "POST":
            raise ValueError("gRPC's calls are POST requests")
        if any(name != name.lower() for name, _ in fields):
            raise ValueError("the names of headers are in lower case")
        if any(_FORBIDDEN.search(value) for _, value in fields):
            raise ValueError("the values of headers have no NUL, CR or LF")
        metadata = tuple(
            item
            for name, value in fields
            if not name.startswith(":") and name not in _OWN
            for item in _metadata(name, value)
        )
        timeout_seconds = _seconds(own.get("grpc-timeout"))
    except ValueError as error:
        return RequestHead(path, math.inf, "identity", (), 400, str(error))
    content_type = own.get("content-type", "")
    if not content_type.startswith("application/grpc") or content_type[16:17] not in ("", "+", ";"):
        reason = f"the content type must be application/grpc, is {content_type!r}"
        return RequestHead(path, math.inf, "identity", (), 415, reason)
    encoding = own.get("grpc-encoding", "identity")
    return RequestHead(path, timeout_seconds, encoding, metadata, excess_bytes=excess_bytes)


def _seconds(timeout: str | None) -> float:
    """Of a value like "250m"; see "Timeout" in gRPC's protocol."""
    if timeout is None:
        return math.inf
    digits, unit = timeout[:-1], timeout[-1:]
    if not (digits.isdecimal() and len(digits) <= _TIMEOUT_DIGITS and unit in _UNIT_SECONDS):
        raise ValueError(f"grpc-timeout: {timeout!r} is none")
    return int(digits) * _UNIT_SECONDS[unit]


def _metadata(name: str, value: str) -> list[tuple[str, str | bytes]]:
    """Bytes where the name says so, of which several values may be joined by commas."""
    if not name.endswith("-bin"):
        return [(name, value)]
    return [(name, _binary(part.strip(" "))) for part in value.split(",")]


def _binary(value: str) -> bytes:
    """Base64, with padding or without."""
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("metadata whose key ends in -bin must be base64") from error


def status_fields(code: int, message: str, trailers: Metadata) -> bytes:
    """The trailers that end a call, as a block.

    Args:
        code: of gRPC.
        message: that explains it.
        trailers: of the handler.
    """
    fields = _field("grpc-status", str(code))
    if message:
        fields += _field("grpc-message", _escaped(message.strip(" ")))
    for name, value in trailers:
        if isinstance(value, bytes):
            value = base64.b64encode(value).decode("ascii").rstrip("=")
        fields += _field(name, value)
    return fields


def refusal(head: RequestHead, max_metadata_bytes: int) -> bytes:
    """The headers that answer no call of gRPC, one without a method, or with too much metadata."""
    if head.http_status != 200:
        message = _field("grpc-message", _escaped(head.error))
        return _field(":status", str(head.http_status)) + message
    if head.excess_bytes:
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
        size = max_metadata_bytes + head.excess_bytes
        reason = f"metadata may have {max_metadata_bytes} bytes, here it has {size}"
    else:
        code = grpc.StatusCode.UNIMPLEMENTED
        reason = f"there is no method {head.path[:_MOST_PATH_CHARACTERS]}"
    return RESPONSE_FIELDS + status_fields(code.value[0], reason, ())


def _escaped(text: str) -> str:
    return quote(text[:_MOST_CHARACTERS], safe=_UNESCAPED, errors="replace")


def _field(name: str, value: str) -> bytes:
    """A field that is not to be indexed, in plain bytes (RFC 7541, section 6.2.2)."""
    return b"\0" + _string(name.encode("latin-1")) + _string(value.encode("latin-1", "replace"))


def _string(data: bytes) -> bytes:
    length = len(data)
    if length < 0x7F:
        return bytes((length,)) + data
    prefix, rest = bytearray(b"\x7f"), length - 0x7F
    while rest >= 0x80:
        prefix.append(rest & 0x7F | 0x80)
        rest >>= 7
    prefix.append(rest)
    return bytes(prefix) + data


RESPONSE_FIELDS = (
    _INDEXED_STATUS_200
    + _field("content-type", "application/grpc")
    + _field("grpc-accept-encoding", "identity, deflate, gzip")
)
