"""The end of a server: calls in flight are answered, new ones are not begun."""

import asyncio

import grpc
from h2.errors import ErrorCodes

from tests.server.http2.methods import Served
from tests.server.http2.peer import Peer, connected, framed


async def test_calls_in_flight_are_finished_while_new_ones_come_too_late(
    served: Served, peer: Peer
) -> None:
    stream = peer.open("/test/Chat", framed(b"one"), end=False)
    await peer.until(lambda: peer.answers[stream].messages == [b"one"])
    stop = asyncio.create_task(served.server.stop(10))
    await asyncio.sleep(0.05)
    # These were on their way before the client knew.
    late = peer.open("/test/Echo", framed(b"late"))
    reset = peer.open("/test/Echo", framed(b"late"), end=False)
    peer.h2.reset_stream(reset)
    await peer.until(lambda: peer.last_stream is not None)
    assert peer.last_stream == stream < late
    assert peer.fault == ErrorCodes.NO_ERROR
    peer.raw(b"\0\0\6\0\1" + stream.to_bytes(4) + framed(b"2"))
    assert await peer.closed() == ErrorCodes.NO_ERROR
    await stop
    assert not peer.answers[late].headers
    assert served.tally.started == 0


async def test_calls_that_take_too_long_are_told_to_try_elsewhere(
    served: Served, peer: Peer
) -> None:
    stream = peer.open("/test/Block", end=False)
    await peer.in_step()
    await served.server.stop(0.05)
    await peer.until(lambda: peer.is_closed)
    assert peer.answers[stream].status == grpc.StatusCode.UNAVAILABLE.value[0]
    assert served.tally.cancelled == 1


async def test_a_client_that_takes_nothing_does_not_hold_up_the_end(served: Served) -> None:
    async with connected(served.port, window=0) as peer:
        stream = peer.open("/test/Repeat", framed(b"5"))
        await peer.until(lambda: bool(peer.answers[stream].headers))
        async with asyncio.timeout(8):
            await served.server.stop(0.05)
        await peer.until(lambda: peer.is_closed)
    assert served.tally.cancelled == 1
