"""Headers: how they are packed, what they may hold, what is remembered of them."""

import ast
import base64

import grpc
import pytest
from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame

from tests.server.http2.methods import LIMITS
from tests.server.http2.peer import HEADERS, Answer, Peer, framed

Fields = tuple[tuple[str, str], ...]


async def _metadata(peer: Peer, *more: tuple[str, str]) -> list[tuple[str, str | bytes]]:
    answer = await peer.ask("/test/Metadata", framed(b""), more=more)
    return list(ast.literal_eval(answer.messages[0].decode()))


async def test_metadata_keeps_its_order_and_its_duplicates(peer: Peer) -> None:
    sent = (("b", "2"), ("a", "1"), ("b", "3"), ("grpc-trace", "kept"), ("empty", ""))
    assert await _metadata(peer, *sent) == list(sent)


async def test_binary_metadata_is_read_with_and_without_padding_and_joined_by_commas(
    peer: Peer,
) -> None:
    values = [b"\0", b"\0\xff", b"three", b""]
    padded = [base64.b64encode(value).decode() for value in values]
    bare = [text.rstrip("=") for text in padded]
    found = await _metadata(peer, *(("x-bin", text) for text in padded + bare))
    assert found == [("x-bin", value) for value in values * 2]
    assert await _metadata(peer, ("x-bin", ",".join(padded))) == [("x-bin", v) for v in values]
    assert await _metadata(peer, ("x-bin", ", ".join(bare))) == [("x-bin", v) for v in values]


@pytest.mark.parametrize(
    ("headers", "more", "status"),
    [
        ({":method": "GET"}, (), "400"),
        ({"content-type": "application/json"}, (), "415"),
        ({"content-type": "application/grpc-web"}, (), "415"),
        ({"grpc-timeout": "1"}, (), "400"),
        ({"grpc-timeout": "123456789S"}, (), "400"),
        ({"grpc-timeout": "-1S"}, (), "400"),
        ({"grpc-timeout": "S"}, (), "400"),
        ({}, (("Upper", "case"),), "400"),
        ({}, (("x-bin", "a"),), "400"),
        ({}, (("x-bin", "é"),), "400"),
    ],
)
@pytest.mark.parametrize("end", [True, False])
async def test_what_is_no_call_of_grpc_is_answered_as_http_does(
    peer: Peer, headers: dict[str, str], more: Fields, status: str, *, end: bool
) -> None:
    stream = peer.open("/test/Echo", end=end, more=more, **headers)
    answer = await peer.answer(stream)
    assert answer.headers[":status"] == status
    assert answer.ended
    if not end:
        await peer.until(lambda: answer.reset is not None)
        assert answer.reset == ErrorCodes.NO_ERROR


async def test_too_much_metadata_is_refused_with_a_reason_and_the_next_call_goes(
    peer: Peer,
) -> None:
    answer = await peer.ask("/test/Echo", framed(b""), more=(("x", "y" * 9000),))
    assert answer.status == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert (await peer.ask("/test/Echo", framed(b"next"))).messages == [b"next"]


async def test_headers_in_pieces_are_joined(peer: Peer) -> None:
    block = Encoder().encode([*HEADERS.items(), ("x", "y" * 5000)])
    pieces = [block[:100], b"", block[100:3000], block[3000:]]
    stream = peer.reserve()
    first = HeadersFrame(stream, pieces[0], flags=["PADDED", "PRIORITY"], pad_length=7)
    parts: list[Frame] = [ContinuationFrame(stream, piece) for piece in pieces[1:]]
    parts[-1].flags.add("END_HEADERS")
    peer.raw(first, *parts, DataFrame(stream, framed(b"joined"), flags=["END_STREAM"]))
    assert (await peer.answer(stream)).messages == [b"joined"]


async def _says(peer: Peer, block: bytes) -> Answer:
    """What a block of headers is answered, which h2 knows nothing of."""
    stream = peer.reserve()
    headers = HeadersFrame(stream, block, flags=["END_HEADERS"])
    peer.raw(headers, DataFrame(stream, framed(b""), flags=["END_STREAM"]))
    return await peer.answer(stream)


PLAIN = b"".join(
    b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    for name, value in {**HEADERS, ":path": "/test/Metadata"}.items()
)
NEWEST_ENTRY = b"\xbe"


def _entry(value: bytes) -> bytes:
    """A field that is put into the table."""
    return b"\x40\x01x" + bytes([len(value)]) + value


async def test_a_block_means_what_the_table_says_when_it_comes(peer: Peer) -> None:
    for value in (b"one", b"two", b"three"):
        await _says(peer, PLAIN + _entry(value))
        for _ in range(2):
            answer = await _says(peer, PLAIN + NEWEST_ENTRY)
            assert answer.messages == [repr((("x", value.decode()),)).encode()]


async def test_a_block_that_empties_the_table_makes_others_unreadable(peer: Peer) -> None:
    await _says(peer, PLAIN + _entry(b"one"))
    for _ in range(2):
        assert (await _says(peer, PLAIN + NEWEST_ENTRY)).status == 0
    # The table shrinks to nothing, and gets back to its 4096 bytes.
    assert (await _says(peer, b"\x20\x3f\xe1\x1f" + PLAIN)).status == 0
    peer.raw(HeadersFrame(99, PLAIN + NEWEST_ENTRY, flags=["END_HEADERS"]))
    assert await peer.closed() == ErrorCodes.COMPRESSION_ERROR


async def test_an_entry_as_large_as_the_table_empties_it(peer: Peer) -> None:
    await _says(peer, PLAIN + _entry(b"one"))
    assert (await _says(peer, PLAIN + NEWEST_ENTRY)).status == 0
    long = b"\x40\x01y\x7f\x81\x1f" + b"v" * 4096
    assert (await _says(peer, PLAIN + long)).status == 0
    peer.raw(HeadersFrame(99, PLAIN + NEWEST_ENTRY, flags=["END_HEADERS"]))
    assert await peer.closed() == ErrorCodes.COMPRESSION_ERROR


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(NEWEST_ENTRY, id="an entry that is not there"),
        pytest.param(b"\x80", id="entry 0"),
        pytest.param(b"\x3f\xff\xff\x03", id="a table larger than allowed"),
        pytest.param(b"\xff" * 10_000, id="a number without an end"),
        pytest.param(b"\0\x81\0", id="broken Huffman code"),
        pytest.param(b"\0\x05ab", id="a name that is cut short"),
        pytest.param(_entry(b"z" * 100) + NEWEST_ENTRY * 10_000, id="a bomb"),
    ],
)
async def test_headers_that_cannot_be_unpacked_end_the_connection(peer: Peer, block: bytes) -> None:
    peer.raw(HeadersFrame(1, block, flags=["END_HEADERS"]))
    assert await peer.closed() == ErrorCodes.COMPRESSION_ERROR


async def test_headers_without_an_end_end_the_connection(peer: Peer) -> None:
    peer.raw(HeadersFrame(1, b"", flags=[]))
    peer.raw(*(ContinuationFrame(1, b"") for _ in range(1000)))
    assert await peer.closed() == ErrorCodes.ENHANCE_YOUR_CALM


async def test_headers_that_are_too_long_to_be_read_end_the_connection(peer: Peer) -> None:
    assert LIMITS.max_metadata_bytes < 10_000
    peer.raw(HeadersFrame(1, b"", flags=[]))
    peer.raw(*(ContinuationFrame(1, b"\0" * 16_000) for _ in range(10)))
    assert await peer.closed() == ErrorCodes.ENHANCE_YOUR_CALM


async def test_names_that_are_echoed_are_short(peer: Peer) -> None:
    answer = await peer.ask("/" + "é" * 3000, framed(b""))
    assert answer.status == grpc.StatusCode.UNIMPLEMENTED.value[0]
    assert len(answer.headers["grpc-message"]) < 1000
