"""SIGTERM and SIGINT as events; work that an event may interrupt."""

import asyncio
import signal
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop(NamedTuple):
    """What a process is told by its stop signals.

    Attributes:
        asked: by the first: finish what is in flight, and end.
        at_once: by the second.
    """

    asked: asyncio.Event
    at_once: asyncio.Event


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Take SIGTERM and SIGINT as events, and after that not at all: then the process ends anyway.

    A further one would end it without its exit code, or amid a traceback.
    """
    stop = Stop(asyncio.Event(), asyncio.Event())

    def take() -> None:
        (stop.at_once if stop.asked.is_set() else stop.asked).set()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, take)
    try:
        yield stop
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


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
