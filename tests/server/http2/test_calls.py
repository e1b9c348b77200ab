"""What gRPC asks of a server, seen by a client that checks every frame."""

import asyncio
import gzip
import zlib

import grpc
import pytest
from h2.errors import ErrorCodes

from tests.server.http2.methods import Served
from tests.server.http2.peer import FRAME_BYTES, HEADERS, Answer, Peer, framed


async def test_each_kind_of_method_answers(peer: Peer) -> None:
    assert (await peer.ask("/test/Echo", framed(b"one"))).messages == [b"one"]
    assert (await peer.ask("/test/Repeat", framed(b"3"))).messages == [bytes(10_000)] * 3
    assert (await peer.ask("/test/Join", framed(b"a") + framed(b"b"))).messages == [b"ab"]
    assert (await peer.ask("/test/Chat", framed(b"a") + framed(b"b"))).messages == [b"a", b"b"]
    assert (await peer.ask("/test/Join")).messages == [b""]


async def test_a_stream_is_answered_while_it_is_sent(peer: Peer) -> None:
    stream = peer.open("/test/Eager", end=False)
    for number in (1, 2):
        peer.h2.send_data(stream, framed(b"one"))
        await peer.answered(stream, number)
    peer.h2.end_stream(stream)
    assert (await peer.answer(stream)).status == 0


async def test_messages_come_in_any_pieces(peer: Peer) -> None:
    pieces = [bytes([byte]) for byte in framed(b"one") + framed(b"") + framed(b"three")]
    assert (await peer.ask("/test/Chat", *pieces)).messages == [b"one", b"", b"three"]


@pytest.mark.parametrize("piece_bytes", [1, 2, 50, 2000])
async def test_frames_come_in_any_pieces(peer: Peer, piece_bytes: int) -> None:
    message = bytes(range(256)) * (piece_bytes // 10 + 1)
    stream = peer.h2.get_next_available_stream_id()
    peer.answers[stream] = Answer()
    peer.h2.send_headers(stream, [*HEADERS.items(), ("x", "y" * 200)])
    peer.h2.send_data(stream, framed(message)[:70], pad_length=9)
    peer.h2.ping(b"in between"[:8])
    peer.h2.send_data(stream, framed(message)[70:])
    peer.h2.send_data(stream, b"", end_stream=True)
    sent = peer.h2.data_to_send()
    for at in range(0, len(sent), piece_bytes):
        peer.raw(sent[at : at + piece_bytes])
        await asyncio.sleep(0)
    assert (await peer.answer(stream)).messages == [message]


@pytest.mark.parametrize("first_bytes", [1, 9, 15, 23])
async def test_a_client_begins_in_any_pieces(served: Served, first_bytes: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    peer = Peer(reader, writer)
    peer.h2.initiate_connection()
    sent = peer.h2.data_to_send()
    peer.raw(sent[:first_bytes])
    await asyncio.sleep(0.01)
    peer.raw(sent[first_bytes:])
    assert (await peer.ask("/test/Echo", framed(b"x"))).messages == [b"x"]
    writer.close()
    await writer.wait_closed()


async def test_a_photograph_fits_into_one_frame(peer: Peer) -> None:
    photograph = framed(bytes(range(240)) * 250)
    stream = peer.open(end=False)
    assert peer.h2.max_outbound_frame_size > len(photograph)
    peer.h2.send_data(stream, photograph, end_stream=True)
    assert (await peer.answer(stream)).data == photograph


@pytest.mark.parametrize(
    ("path", "sent", "code"),
    [
        ("/test/Nothing", framed(b""), grpc.StatusCode.UNIMPLEMENTED),
        ("", framed(b""), grpc.StatusCode.UNIMPLEMENTED),
        ("/test/Echo", b"", grpc.StatusCode.UNIMPLEMENTED),
        ("/test/Echo", framed(b"a") + framed(b"b"), grpc.StatusCode.UNIMPLEMENTED),
        ("/test/Echo", framed(b"whole")[:-1], grpc.StatusCode.INVALID_ARGUMENT),
        ("/test/Join", framed(b"whole") + b"\0\0", grpc.StatusCode.INVALID_ARGUMENT),
        ("/test/Echo", framed(b"", flag=1), grpc.StatusCode.UNIMPLEMENTED),
        ("/test/Echo", framed(b"", flag=2), grpc.StatusCode.UNIMPLEMENTED),
        ("/test/Echo", b"\0\xff\xff\xff\xff", grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("/test/Unreadable", framed(b""), grpc.StatusCode.UNKNOWN),
        ("/test/Unwritable", framed(b""), grpc.StatusCode.UNKNOWN),
    ],
)
async def test_what_is_no_good_call_gets_a_code(
    peer: Peer, path: str, sent: bytes, code: grpc.StatusCode
) -> None:
    answer = await peer.ask(path, sent)
    assert answer.status == code.value[0]
    assert answer.headers[":status"] == "200"
    assert not answer.data
    assert (await peer.ask("/test/Echo", framed(b"next"))).messages == [b"next"]


@pytest.mark.parametrize("message", ["naïve 100 % — 日本\n\0", "\udcff", "x" * 100_000])
async def test_any_message_of_an_error_reaches_the_caller(peer: Peer, message: str) -> None:
    sent = message.encode("utf-8", "surrogateescape")
    answer = await peer.ask("/test/Refuse", framed(sent))
    assert answer.status == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert answer.message == message.replace("\udcff", "?")[: len(answer.message)]
    assert answer.headers["reason-bin"] == "AP8"
    assert answer.headers["reason"] == "ripe"


@pytest.mark.parametrize(
    ("encoding", "compressed"),
    [("gzip", gzip.compress(b"zip" * 99)), ("deflate", zlib.compress(b"zip" * 99))],
)
async def test_compressed_messages_are_read(peer: Peer, encoding: str, compressed: bytes) -> None:
    for path in ("/test/Echo", "/test/Chat"):
        answer = await peer.ask(path, framed(compressed, flag=1), grpc_encoding=encoding)
        assert answer.messages == [b"zip" * 99]


@pytest.mark.parametrize("path", ["/test/Echo", "/test/Chat", "/test/Eager"])
async def test_compressed_messages_that_are_broken_or_bombs_are_refused(
    peer: Peer, path: str
) -> None:
    bomb = gzip.compress(bytes(20 << 20))
    for sent, code in (
        (b"no gzip", grpc.StatusCode.INVALID_ARGUMENT),
        (gzip.compress(b"cut short")[:-9], grpc.StatusCode.INVALID_ARGUMENT),
        (bomb, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ):
        stream = peer.open(path, end=False, grpc_encoding="gzip")
        frames = framed(sent, flag=1)
        for at in range(0, len(frames), FRAME_BYTES):
            peer.h2.send_data(stream, frames[at : at + FRAME_BYTES])
        peer.h2.end_stream(stream)
        assert (await peer.answer(stream)).status == code.value[0]


async def test_an_early_answer_tells_the_client_to_send_no_more(peer: Peer) -> None:
    for path in ("/test/Early", "/test/Nothing"):
        stream = peer.open(path, framed(b"first"), end=False)
        await peer.answer(stream)
        await peer.in_step()
        assert peer.answers[stream].reset == ErrorCodes.NO_ERROR
        assert peer.answers[stream].ended


@pytest.mark.parametrize("grpc_timeout", ["50m", "0n", "0H", "1n"])
async def test_a_deadline_that_passes_ends_the_call_and_its_handler(
    served: Served, peer: Peer, grpc_timeout: str
) -> None:
    answer = await peer.ask("/test/Block", end=False, grpc_timeout=grpc_timeout)
    assert answer.status == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert served.tally.cancelled == served.tally.started


async def test_a_deadline_passes_while_the_client_does_not_take_the_answer(peer: Peer) -> None:
    peer.takes = False
    answer = await peer.ask("/test/Zeros", framed(b"100000"), grpc_timeout="200m")
    assert answer.reset == ErrorCodes.CANCEL
    answer = await peer.ask("/test/Block", framed(b""), grpc_timeout="50m")
    assert answer.status == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


async def test_the_longest_deadline_is_one(peer: Peer) -> None:
    for timeout in ("99999999H", "99999999n"):
        assert (await peer.ask("/test/Echo", framed(b"x"), grpc_timeout=timeout)).status == 0


async def test_a_reset_cancels_a_handler_that_waits_to_read_or_to_write(
    served: Served, peer: Peer
) -> None:
    peer.takes = False
    reading = peer.open("/test/Block", end=False)
    writing = peer.open("/test/Repeat", framed(b"100"))
    await peer.until(lambda: len(peer.answers[writing].data) > 60_000)
    for stream in (reading, writing):
        peer.h2.reset_stream(stream)
    await peer.in_step()
    await asyncio.sleep(0)
    assert served.tally.cancelled == 2


async def test_handlers_end_with_their_connection(served: Served, peer: Peer) -> None:
    for _ in range(20):
        peer.open("/test/Block", end=False)
    await peer.in_step()
    peer.writer.transport.abort()
    for _ in range(500):
        if served.tally.cancelled == 20:
            break
        await asyncio.sleep(0.01)
    assert served.tally.cancelled == 20


async def test_nothing_is_left_of_calls_that_are_over(peer: Peer) -> None:
    before = len(asyncio.all_tasks())
    for path in ("/test/Echo", "/test/Refuse", "/test/Eager", "/test/Early", "/test/Unreadable"):
        await peer.ask(path, framed(b"x"))
    peer.h2.reset_stream(peer.open("/test/Eager", framed(b"x"), end=False))
    await peer.in_step()
    await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) == before
