"""Calls between two processes of a server: errors come over whole, and end one call alone."""

import asyncio
import inspect
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from convlens.server import errors
from convlens.server.channel import Channel, Handler

ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
ERRORS = [kind for kind in ERRORS if issubclass(kind, errors.ServerError)]


@asynccontextmanager
async def _connected(handler: Handler) -> AsyncIterator[Channel]:
    """A channel whose other end answers the call "ask"."""
    ends = socket.socketpair()
    channels = [await Channel.open(end, {"ask": handler}) for end in ends]
    runs = [asyncio.create_task(channel.run()) for channel in channels]
    yield channels[0]
    for run in runs:
        run.cancel()
    await asyncio.gather(*runs, return_exceptions=True)


@pytest.mark.parametrize("kind", ERRORS)
async def test_an_error_comes_over_as_what_it_was(kind: type[errors.ServerError]) -> None:
    retry = {"retry_after_seconds": 2.5} if issubclass(kind, errors.OverloadedError) else {}
    raised = kind("what was wrong", **retry)

    async def ask(fails: bool) -> str:
        if fails:
            raise raised
        return "an answer"

    async with _connected(ask) as channel, asyncio.timeout(10):
        with pytest.raises(errors.ServerError) as caught:
            await channel.call("ask", True)
        assert await channel.call("ask", False) == "an answer"
    assert type(caught.value) is kind
    assert str(caught.value) == "what was wrong"
    assert vars(caught.value) == vars(raised)


async def test_an_answer_that_cannot_be_read_ends_one_call_alone() -> None:
    ours, theirs = socket.socketpair()
    channel = await Channel.open(ours, {})
    run = asyncio.create_task(channel.run())
    reader, writer = await asyncio.open_unix_connection(sock=theirs)

    async def answer(**fields: Any) -> None:
        number = json.loads(await reader.readline())["number"]
        writer.write(json.dumps({"number": number, **fields}).encode() + b"\n")

    async with asyncio.timeout(10):
        call = asyncio.create_task(channel.call("ask"))
        await answer(error=["NoSuchError", "what?", {}])
        with pytest.raises(errors.ServerError, match=r"cannot be read.*NoSuchError"):
            await call
        call = asyncio.create_task(channel.call("ask"))
        await answer(value=7)
        assert await call == 7
        writer.close()
        await run
