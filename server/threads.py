"""Threads that work for the event loop, and behind it."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from convlens.server.background import yield_to_the_event_loop

Result = TypeVar("Result")


class Job:
    """A call that a thread makes for an event loop.

    Args:
        function: to be called.
        arguments: of it.

    Attributes:
        outcome: what it returns or raises, for the event loop that it was made in; one that is
            cancelled before the call is begun spares it.
    """

    __slots__ = ("_arguments", "_function", "_loop", "outcome")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function = function
        self._arguments = arguments
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[Any] = self._loop.create_future()

    def do(self) -> None:
        """Make the call, and let the event loop know."""
        if self.outcome.cancelled():
            return
        settle: Callable[[Any], None] = self.outcome.set_result
        result: Any
        try:
            result = self._function(*self._arguments)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
            settle, result = self.outcome.set_exception, error
        with contextlib.suppress(RuntimeError):  # the event loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._settle, settle, result)

    def _settle(self, settle: Callable[[Any], None], result: Any) -> None:
        if not self.outcome.done():  # else nobody waits any more
            settle(result)


class Threads:
    """Threads that do jobs in the order they come.

    Executors do the same by way of a second future with locks of its own, which takes the event
    loop twice as long: see `bench/hand_over.py`.

    Args:
        count: how many there are.
        name: of the threads.
    """

    def __init__(self, count: int, name: str) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, function: Callable[..., Result], *arguments: Any) -> "asyncio.Future[Result]":
        """Have a function called; where that is cancelled before its turn, it is not."""
        job = Job(function, arguments)
        self._jobs.put(job)
        return job.outcome

    def close(self) -> None:
        """Let the jobs that were handed over be done, and end the threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        yield_to_the_event_loop()
        while self._do(self._jobs.get()):
            pass

    def _do(self, job: Job | None) -> bool:
        """Do a job and keep nothing of it; returns whether more are to come."""
        if job is not None:
            job.do()
        return job is not None
