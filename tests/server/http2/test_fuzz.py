"""Mutated frames: the server lets nothing escape, and goes on answering others."""

import asyncio
import os
import random
import time

import pytest
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.server.http2.methods import Served
from tests.server.http2.peer import HEADERS, connected, framed

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATHS = ("Echo", "Zeros", "Repeat", "Join", "Chat", "Eager", "Block", "Refuse", "Early")
SECONDS = 1.0 * float(os.environ.get("CONVLENS_FUZZ", "1"))


def _frames(rng: random.Random, encoder: Encoder) -> list[bytes]:
    """A legal conversation, more or less."""
    found: list[Frame] = [SettingsFrame(0, {4: rng.choice([0, 1, 65_535, 2**31 - 1])})]
    for stream in range(1, 2 * rng.randrange(2, 8), 2):
        headers = {**HEADERS, ":path": f"/test/{rng.choice(PATHS)}"}
        if rng.random() < 0.3:
            headers["grpc-timeout"] = rng.choice(["0n", "1m", "99999999H", "5x"])
        if rng.random() < 0.3:
            headers["grpc-encoding"] = rng.choice(["gzip", "deflate", "none"])
        block = encoder.encode(headers.items())
        cut = rng.randrange(len(block))
        found += [HeadersFrame(stream, block[:cut])]
        found += [ContinuationFrame(stream, block[cut:], flags=["END_HEADERS"])]
        for _ in range(rng.randrange(3)):
            found.append(DataFrame(stream, framed(b"9" * rng.randrange(5), rng.random() < 0.1)))
        found.append(DataFrame(stream, flags=["END_STREAM"] if rng.random() < 0.6 else []))
        more: list[Frame] = [
            WindowUpdateFrame(stream, rng.randrange(1, 2**31)),
            WindowUpdateFrame(0, rng.randrange(1, 100_000)),
            RstStreamFrame(stream),
            PingFrame(0, b"12345678"),
            PriorityFrame(stream),
            SettingsFrame(0, {4: rng.randrange(2**20)}),
        ]
        found += rng.sample(more, rng.randrange(3))
    return [frame.serialize() for frame in found]


def _mutated(frames: list[bytes], rng: random.Random) -> bytes:
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(frames))
        frame = bytearray(frames[at].ljust(9, b"\0"))
        match rng.randrange(6):
            case 0:
                frame[rng.randrange(len(frame))] = rng.randrange(256)
            case 1:  # its type, or its flags
                frame[rng.choice((3, 4))] = rng.randrange(16)
            case 2:
                frames.insert(rng.randrange(len(frames)), bytes(frame))
            case 3:
                del frame[rng.randrange(len(frame)) :]
            case 4:
                rng.shuffle(frames)
            case _:
                frame[5:9] = rng.randrange(16).to_bytes(4)
        frames[at] = bytes(frame)
    return b"".join(frames)


@pytest.mark.fuzz
async def test_no_sequence_of_frames_hurts_the_server_or_others(served: Served) -> None:
    seed = 20260 if SECONDS == 1 else random.randrange(2**32)
    rng = random.Random(seed)
    end = time.monotonic() + SECONDS
    async with connected(served.port) as good:
        rounds = 0
        while time.monotonic() < end:
            rounds += 1
            _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            sent = PREFACE + _mutated(_frames(rng, Encoder()), rng)
            cut = rng.randrange(len(sent))
            writer.write(sent[:cut])
            await asyncio.sleep(0)
            writer.write(sent[cut:])
            answer = await good.ask("/test/Echo", framed(b"x"))
            assert answer.messages == [b"x"], f"seed {seed}, round {rounds}"
            writer.transport.abort()
    assert rounds > 20
