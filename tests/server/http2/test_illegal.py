"""What no client may send: the connection ends with the code that RFC 9113 names for it."""

import asyncio

import pytest
from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from convlens.server.http2 import Limits
from tests.server.http2.methods import Served, serving
from tests.server.http2.peer import HEADERS, Peer, connected, framed

OPEN = 1  # a stream whose client may send
HALF_CLOSED = 3  # a stream whose client has said that it is done
BLOCK = Encoder().encode({**HEADERS, ":path": "/test/Block"}.items())


def _bytes(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


PROTOCOL, SIZE, CLOSED = (
    ErrorCodes.PROTOCOL_ERROR,
    ErrorCodes.FRAME_SIZE_ERROR,
    ErrorCodes.STREAM_CLOSED,
)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        pytest.param([DataFrame(5, b"x")], PROTOCOL, id="data of an idle stream"),
        pytest.param([_bytes(0, 0, 0, b"x")], PROTOCOL, id="data of the connection"),
        pytest.param([_bytes(0, 8, OPEN)], PROTOCOL, id="padding without its length"),
        pytest.param([_bytes(0, 8, OPEN, b"\x05pad")], PROTOCOL, id="more padding than data"),
        pytest.param([DataFrame(HALF_CLOSED, b"x")], CLOSED, id="data after the end"),
        pytest.param([HeadersFrame(4, BLOCK, flags=["END_HEADERS"])], PROTOCOL, id="even"),
        pytest.param([_bytes(1, 4, 0, BLOCK)], PROTOCOL, id="headers of the connection"),
        pytest.param([_bytes(1, 0x24, 5, b"1234")], SIZE, id="a priority that is cut short"),
        pytest.param([_bytes(1, 0x2C, 5, b"\x03123456")], SIZE, id="padding for a priority"),
        pytest.param(
            [HeadersFrame(OPEN, b"", flags=["END_HEADERS"])], PROTOCOL, id="trailers without end"
        ),
        pytest.param(
            [HeadersFrame(HALF_CLOSED, b"", flags=["END_HEADERS", "END_STREAM"])],
            CLOSED,
            id="trailers after the end",
        ),
        pytest.param([HeadersFrame(5, BLOCK), PingFrame(0)], PROTOCOL, id="interrupted headers"),
        pytest.param(
            [HeadersFrame(5, BLOCK), ContinuationFrame(7)], PROTOCOL, id="another's headers"
        ),
        pytest.param([ContinuationFrame(OPEN)], PROTOCOL, id="a continuation of nothing"),
        pytest.param([_bytes(3, 0, OPEN, b"123")], SIZE, id="a short reset"),
        pytest.param([_bytes(3, 0, 0, b"1234")], PROTOCOL, id="a reset of the connection"),
        pytest.param([RstStreamFrame(5)], PROTOCOL, id="a reset of an idle stream"),
        pytest.param([_bytes(4, 0, 1)], PROTOCOL, id="settings of a stream"),
        pytest.param([_bytes(4, 0, 0, b"12345")], SIZE, id="settings and a half"),
        pytest.param([_bytes(4, 1, 0, b"123456")], SIZE, id="settings in an acknowledgement"),
        pytest.param([PushPromiseFrame(OPEN, 2, b"")], PROTOCOL, id="a push"),
        pytest.param([_bytes(6, 0, 1, b"12345678")], PROTOCOL, id="a ping of a stream"),
        pytest.param([_bytes(6, 0, 0, b"1234567")], SIZE, id="a short ping"),
        pytest.param([_bytes(7, 0, 1, bytes(8))], PROTOCOL, id="a goodbye of a stream"),
        pytest.param([_bytes(8, 0, 0, b"123")], SIZE, id="a short window"),
        pytest.param([WindowUpdateFrame(5, 1)], PROTOCOL, id="a window of an idle stream"),
        pytest.param([_bytes(0, 0, OPEN, bytes(65_537))], SIZE, id="a frame too long"),
    ],
)
async def test_an_illegal_frame_ends_the_connection_and_no_other(
    served: Served, peer: Peer, frames: list[Frame | bytes], code: ErrorCodes
) -> None:
    assert peer.open("/test/Block", end=False) == OPEN
    assert peer.open("/test/Block") == HALF_CLOSED
    await peer.in_step()
    peer.raw(*frames)
    assert await peer.closed() == code
    await asyncio.sleep(0.01)
    assert served.tally.cancelled == 2
    async with connected(served.port) as other:
        assert (await other.ask("/test/Echo", framed(b"x"))).messages == [b"x"]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(PriorityFrame(7, depends_on=0), id="a priority"),
        pytest.param(_bytes(0xFA, 0xFF, 9, b"new"), id="a frame of a type to come"),
        pytest.param(_bytes(6, 1, 0, b"12345678"), id="an answer to no ping"),
        pytest.param(SettingsFrame(0, {0x99: 5}), id="a setting to come"),
        pytest.param(SettingsFrame(0, flags=["ACK"]), id="an acknowledgement of nothing"),
        pytest.param(GoAwayFrame(0), id="a goodbye"),
        pytest.param(WindowUpdateFrame(1, 5), id="a window of a stream that is over"),
        pytest.param(RstStreamFrame(1), id="a reset of a stream that is over"),
        pytest.param(DataFrame(1, b"late"), id="data of a stream that is over"),
    ],
)
async def test_what_means_nothing_here_is_passed_over(peer: Peer, frame: Frame | bytes) -> None:
    answer = await peer.ask("/test/Early", end=False)
    assert answer.status == 0
    peer.raw(frame)
    assert (await peer.ask("/test/Echo", framed(b"x"))).messages == [b"x"]


@pytest.mark.parametrize(
    "start",
    [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _bytes(6, 0, 0, bytes(8))],
    ids=["HTTP/1.1", "no settings"],
)
async def test_a_client_begins_as_http2_does(served: Served, start: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(start)
    async with asyncio.timeout(10):
        said = await reader.read()
    assert _bytes(7, 0, 0)[3:5] in said
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(_bytes(0, 0, OPEN), id="data without data"),
        pytest.param(_bytes(2, 0, OPEN, bytes(5)), id="priorities"),
        pytest.param(_bytes(6, 0, 0, bytes(8)), id="pings"),
        pytest.param(_bytes(4, 0, 0), id="settings"),
    ],
)
async def test_a_flood_of_frames_that_ask_for_nothing_ends_the_connection(
    peer: Peer, frame: bytes
) -> None:
    peer.open("/test/Block", end=False)
    peer.raw(frame * 30_000)
    assert await peer.closed() == ErrorCodes.ENHANCE_YOUR_CALM


async def test_handlers_that_linger_count_as_calls(served: Served, peer: Peer) -> None:
    """Calls that are reset, or whose time is up, so fast that their handlers cannot follow."""
    most = peer.h2.remote_settings.max_concurrent_streams
    short = [peer.open("/test/Linger", framed(b""), grpc_timeout="300m") for _ in range(500)]
    for _ in range(most - len(short)):
        stream = peer.open("/test/Linger", framed(b""))
        await peer.in_step()
        peer.h2.reset_stream(stream)
    for stream in short:
        await peer.answer(stream)
    answer = await peer.ask("/test/Linger", framed(b""))
    assert answer.reset == ErrorCodes.REFUSED_STREAM
    assert served.tally.started == most
    served.tally.go.set()
    await peer.in_step()
    await asyncio.sleep(0.01)
    assert (await peer.ask("/test/Echo", framed(b"x"))).status == 0


async def test_one_connection_lost_leaves_nothing_behind() -> None:
    async with serving(Limits(1 << 20, 8192)) as served:
        before = len(asyncio.all_tasks())
        for _ in range(50):
            async with connected(served.port) as peer:
                peer.open("/test/Eager", framed(b"x"), end=False)
        await asyncio.sleep(0.2)
        assert len(asyncio.all_tasks()) == before
