"""SIGTERM and SIGINT as an event; work that an event may interrupt."""

import asyncio
import signal
from collections.abc import Awaitable

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stop_signals() -> asyncio.Event:
    """An event that each SIGTERM and each SIGINT sets."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    return stop


async def either(work: Awaitable[object], stop: asyncio.Event) -> bool:
    """Do the work unless the event comes first; tells whether the work was done."""
    doing = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if doing.done():
        doing.result()
        return True
    doing.cancel()
    return False
