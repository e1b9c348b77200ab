"""Windows in both directions, and what one client may make the server hold."""

import asyncio

import grpc
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame, WindowUpdateFrame

from convlens.server.http2 import Limits
from tests.server.http2.methods import Served, serving
from tests.server.http2.peer import HEADERS, Peer, connected, framed

HELD_BYTES = 2 << 20


@pytest.mark.parametrize("window", [0, 1, 100, 20_000, 2**31 - 1])
async def test_answers_fit_into_any_window(served: Served, window: int) -> None:
    async with connected(served.port, window) as peer:
        stream = peer.open("/test/Zeros", framed(b"100000" if window > 1 else b"30"))
        if not window:
            await peer.until(lambda: bool(peer.answers[stream].headers))
            assert not peer.answers[stream].data
            peer.h2.increment_flow_control_window(100_000, stream)
            peer.flush()
        assert len((await peer.answer(stream)).messages[0]) >= 30


async def test_a_window_that_shrinks_below_zero_opens_again(peer: Peer) -> None:
    peer.takes = False
    stream = peer.open("/test/Zeros", framed(b"200000"))
    await peer.until(lambda: len(peer.answers[stream].data) == 65_535)
    peer.h2.increment_flow_control_window(1_000_000)
    peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    await peer.in_step()
    peer.h2.increment_flow_control_window(65_536, stream)
    await peer.in_step()
    assert len(peer.answers[stream].data) == 65_536
    peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 200_000})
    assert len((await peer.answer(stream)).messages[0]) == 200_000


async def test_one_call_that_is_not_taken_does_not_hold_up_another(peer: Peer) -> None:
    peer.h2.increment_flow_control_window(1_000_000)
    peer.takes = False
    stuck = peer.open("/test/Zeros", framed(b"100000"))
    await peer.until(lambda: len(peer.answers[stuck].data) == 65_535)
    assert len((await peer.ask("/test/Zeros", framed(b"50000"))).messages[0]) == 50_000


@pytest.mark.parametrize("stream", [0, 1])
async def test_windows_that_overflow_or_grow_by_nothing_end_the_connection(
    served: Served, stream: int
) -> None:
    for increment, code in (
        (2**31 - 1, ErrorCodes.FLOW_CONTROL_ERROR),
        (0, ErrorCodes.PROTOCOL_ERROR),
    ):
        async with connected(served.port) as peer:
            peer.open("/test/Block", end=False)
            update = WindowUpdateFrame(stream, 1).serialize()[:-4] + increment.to_bytes(4)
            peer.raw(update)
            assert await peer.closed() == code


async def test_settings_that_lift_a_window_too_high_end_the_connection(peer: Peer) -> None:
    stream = peer.open("/test/Block", end=False)
    await peer.in_step()
    peer.raw(WindowUpdateFrame(stream, 2**31 - 1 - 65_535))
    await peer.in_step()
    peer.raw(SettingsFrame(0, {SettingCodes.INITIAL_WINDOW_SIZE: 65_536}))
    assert await peer.closed() == ErrorCodes.FLOW_CONTROL_ERROR


async def test_more_data_than_was_granted_ends_the_connection(peer: Peer) -> None:
    stream = peer.open("/test/Block", end=False)
    for _ in range(100):
        peer.raw(DataFrame(stream, framed(bytes(16_000))))
    assert await peer.closed() == ErrorCodes.FLOW_CONTROL_ERROR


async def test_what_a_handler_does_not_read_is_not_sent(peer: Peer) -> None:
    stream = peer.open("/test/Block", end=False)
    sent = 0
    while (room := peer.h2.local_flow_control_window(stream)) > 16_000:
        peer.h2.send_data(stream, framed(bytes(min(room, 16_000) - 5)))
        sent += 16_000
        await peer.in_step()
    assert sent <= 1 << 20


async def test_padding_counts_and_is_given_back(peer: Peer) -> None:
    stream = peer.open("/test/Chat", end=False)
    for _ in range(300):  # of 256 bytes beside their six
        peer.h2.send_data(stream, framed(b"."), pad_length=250)
        await peer.in_step()
    peer.h2.end_stream(stream)
    assert len((await peer.answer(stream)).messages) == 300


async def test_all_messages_that_are_held_together_are_bounded() -> None:
    limits = Limits(max_message_bytes=1 << 20, max_metadata_bytes=8192, held_bytes=HELD_BYTES)
    async with serving(limits) as served, connected(served.port) as peer:
        streams = [peer.open("/test/Echo", end=False) for _ in range(12)]
        for stream in streams:
            peer.h2.send_data(stream, framed(bytes(300_000))[:16_384])
            for _ in range(17):
                peer.h2.send_data(stream, bytes(16_384))
            await peer.in_step()
        refused = [stream for stream in streams if peer.answers[stream].ended]
        held = [stream for stream in streams if stream not in refused]
        assert refused
        assert len(held) * 17 * 16_384 <= HELD_BYTES
        for stream in refused:
            code = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
            assert (await peer.answer(stream)).status == code
        for stream in held:
            peer.h2.reset_stream(stream)
        assert (await peer.ask("/test/Echo", framed(b"room again"))).status == 0


async def test_a_client_that_fills_the_room_does_not_keep_others_out() -> None:
    limits = Limits(max_message_bytes=1 << 20, max_metadata_bytes=8192, held_bytes=HELD_BYTES)
    piece = bytes(16_384)
    async with (
        serving(limits) as served,
        connected(served.port) as greedy,
        connected(served.port) as other,
    ):
        streams = [greedy.open("/test/Echo", end=False) for _ in range(HELD_BYTES // 400_000)]
        for stream in streams:
            greedy.h2.send_data(stream, framed(bytes(900_000))[:16_384])
            for _ in range(23):
                greedy.h2.send_data(stream, piece)
            await greedy.in_step()
        assert not any(greedy.answers[stream].ended for stream in streams)
        for _ in range(5):
            call = other.open("/test/Block", end=False)
            for part in (framed(bytes(100_000))[:16_384], *[piece] * 5):
                other.h2.send_data(call, part)
            await other.in_step()
            assert not other.answers[call].ended
        await greedy.in_step()
        ended = [greedy.answers[stream] for stream in streams if greedy.answers[stream].ended]
        assert ended
        exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert all(answer.status == exhausted for answer in ended)


@pytest.mark.parametrize("message", [b"", b".."])
async def test_many_small_messages_count_with_what_it_takes_to_hold_them(message: bytes) -> None:
    limits = Limits(max_message_bytes=1 << 20, max_metadata_bytes=8192, held_bytes=HELD_BYTES)
    async with serving(limits) as served, connected(served.port) as peer:
        stream = peer.open("/test/Block", end=False)
        piece = framed(message) * 2000
        while not peer.answers[stream].ended:
            assert peer.h2.local_flow_control_window(stream) > len(piece), "all was held"
            peer.h2.send_data(stream, piece)
            await peer.in_step()
        assert peer.answers[stream].status == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


async def test_answers_that_are_not_taken_are_bounded() -> None:
    limits = Limits(max_message_bytes=1 << 20, max_metadata_bytes=8192, held_bytes=HELD_BYTES)
    async with serving(limits) as served, connected(served.port, window=0) as peer:
        streams = [peer.open("/test/Zeros", framed(b"500000")) for _ in range(10)]
        await peer.until(lambda: sum(peer.answers[s].ended for s in streams) == 6)
        for stream in streams:
            if not peer.answers[stream].ended:
                peer.h2.reset_stream(stream)
        await peer.in_step()
        stream = peer.open("/test/Zeros", framed(b"500000"))
        peer.h2.increment_flow_control_window(1_000_000, stream)
        peer.h2.increment_flow_control_window(1_000_000)
        assert (await peer.answer(stream)).status == 0


async def test_a_client_that_does_not_read_is_not_read_from(served: Served) -> None:
    async with connected(served.port, window=2**31 - 1) as peer:
        peer.h2.increment_flow_control_window(2**31 - 1 - 65_535)
        block = Encoder().encode({**HEADERS, ":path": "/test/" + "é" * 99}.items())
        call = HeadersFrame(1, block, flags=["END_HEADERS", "END_STREAM"]).serialize()
        most = 200_000
        for first in range(1, most, 2000):
            for stream in range(first, first + 2000, 2):
                peer.raw(call[:5] + stream.to_bytes(4) + call[9:])
            try:
                async with asyncio.timeout(0.3):
                    await peer.writer.drain()
            except TimeoutError:
                break
        assert stream < most, "all was read"
        async with connected(served.port) as other:
            assert (await other.ask("/test/Echo", framed(b"x"))).status == 0


async def test_settings_that_hurt_end_the_connection(served: Served) -> None:
    for setting, value, code in (
        (SettingCodes.INITIAL_WINDOW_SIZE, 2**31, ErrorCodes.FLOW_CONTROL_ERROR),
        (SettingCodes.MAX_FRAME_SIZE, 16_383, ErrorCodes.PROTOCOL_ERROR),
        (SettingCodes.MAX_FRAME_SIZE, 2**24, ErrorCodes.PROTOCOL_ERROR),
        (SettingCodes.ENABLE_PUSH, 2, ErrorCodes.PROTOCOL_ERROR),
    ):
        async with connected(served.port) as peer:
            peer.raw(SettingsFrame(0, {setting: value}))
            assert await peer.closed() == code
