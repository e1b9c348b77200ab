"""A request of gRPC as the bytes of its parts: only two numbers differ from call to call."""

import struct

from hpack import Encoder, NeverIndexedHeaderTuple

from convlens.server.http2 import frames

TIMEOUT = "00000000m"  # milliseconds, in as many digits as gRPC allows
STREAM = struct.Struct(">L")
STREAM_AT = 5  # in the head of a frame


def pack_head(authority: str, method: str) -> bytes:
    """The headers of each call: none of them changes HPACK's table, so that all calls' are alike.

    Args:
        authority: host:port.
        method: "/package.Service/Method".
    """
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": authority,
        "te": "trailers",
        "content-type": "application/grpc",
        "grpc-timeout": TIMEOUT,
    }
    never_indexed = [NeverIndexedHeaderTuple(*field) for field in fields.items()]
    return Encoder().encode(never_indexed, huffman=False)


class PackedRequest:
    """A request as it is sent: a frame of headers, and as many of data as its message needs.

    Args:
        head: the packed headers.
        message: of gRPC.
        max_frame: bytes of data that the server takes in a frame.
    """

    def __init__(self, head: bytes, message: bytes, max_frame: int) -> None:
        body = b"\0" + len(message).to_bytes(4) + message
        self.body_bytes = len(body)
        parts = [frames.frame(frames.HEADERS, frames.END_HEADERS, 0, head)]
        for at in range(0, len(body), max_frame):
            last = frames.END_STREAM if at + max_frame >= len(body) else 0
            parts.append(frames.frame(frames.DATA, last, 0, body[at : at + max_frame]))
        self._bytes = b"".join(parts)
        self._timeout_at = frames.HEAD_BYTES + head.index(TIMEOUT.encode())
        starts = (sum(map(len, parts[:number])) for number in range(len(parts)))
        self._streams_at = [start + STREAM_AT for start in starts]

    def fill(self, stream: int, timeout_ms: int) -> bytearray:
        """The bytes of one request."""
        filled = bytearray(self._bytes)
        for at in self._streams_at:
            STREAM.pack_into(filled, at, stream)
        digits = f"{timeout_ms:0{len(TIMEOUT) - 1}}".encode()
        filled[self._timeout_at : self._timeout_at + len(digits)] = digits
        return filled
