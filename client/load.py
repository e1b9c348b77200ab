"""Load on a server: in a closed loop, or at a rate that does not wait for the server."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import grpc

from convlens.client.connection import Connection, aio_channel
from convlens.client.errors import from_rpc_error
from convlens.client.load_result import Tally
from convlens.client.load_target import TIMEOUT_SECONDS, Target

# The server's own times are looked at in so many answers' trailers: that costs the generator time.
LOOK_AT_ONE_IN = 8

Arrivals = Literal["poisson", "constant"]


@dataclass(frozen=True)
class ClosedLoop:
    """So many callers, each of which waits for its answer before it asks again.

    Attributes:
        concurrency: the callers.
    """

    concurrency: int

    def share(self, index: int, processes: int) -> "ClosedLoop":
        """What one of several processes does."""
        return ClosedLoop(len(range(index, self.concurrency, processes)))


@dataclass(frozen=True)
class OpenLoop:
    """Requests that come at a rate, whether or not the server keeps up.

    Attributes:
        rate: requests a second.
        arrivals: at random as from many independent callers, or at equal distances.
        first_seconds: when the first request is due.
        seed: of the random arrivals.
    """

    rate: float
    arrivals: Arrivals = "poisson"
    first_seconds: float = 0.0
    seed: int = 0

    def share(self, index: int, processes: int) -> "OpenLoop":
        """What one of several processes does: never all of them at the same moments."""
        first_seconds = index / self.rate if self.arrivals == "constant" else 0.0
        return OpenLoop(self.rate / processes, self.arrivals, first_seconds, seed=index)

    def due_seconds(self) -> Iterator[float]:
        """When each request is to be sent, counted from the beginning; without an end."""
        draw = random.Random(self.seed)  # noqa: S311 - the same arrivals each time
        due = self.first_seconds
        while True:
            yield due
            due += draw.expovariate(self.rate) if self.arrivals == "poisson" else 1 / self.rate


@dataclass(frozen=True)
class Job:
    """One measurement.

    Attributes:
        connection: how the server is reached.
        target: what it is asked.
        loop: how often.
        duration_seconds: of the measurement.
        warmup_seconds: before it; not counted.
        deadline_seconds: for each request, from the moment when it was meant to be sent.
        connections: over which the requests are spread.
    """

    connection: Connection
    target: Target
    loop: ClosedLoop | OpenLoop
    duration_seconds: float
    warmup_seconds: float
    deadline_seconds: float
    connections: int = 1


async def check(connection: Connection, target: Target) -> None:
    """Send each request once.

    Raises:
        ClientError: the server is not there, or does not take it.
    """
    async with aio_channel(connection) as channel:
        method: Any = channel.unary_unary(target.method)
        for request in target.requests:
            try:
                await method(request, timeout=TIMEOUT_SECONDS, metadata=connection.metadata)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error, connection.address) from error


async def measure(job: Job) -> Tally:
    """Do one job in the running event loop."""
    channels = [aio_channel(job.connection, own=True) for _ in range(job.connections)]
    try:
        generator = _Generator(
            job, [channel.unary_unary(job.target.method) for channel in channels]
        )
        return await generator.run()
    finally:
        for channel in channels:
            await channel.close()


class _Generator:
    """Sends the requests of one job and counts what becomes of them."""

    def __init__(self, job: Job, methods: list[Callable[..., Any]]) -> None:
        self._job = job
        self._tally = Tally(job.deadline_seconds)
        self._answers = 0
        self._next = zip(itertools.cycle(job.target.requests), itertools.cycle(methods))
        start = time.perf_counter()
        self._from = start + job.warmup_seconds
        self._until = self._from + job.duration_seconds

    async def run(self) -> Tally:
        """The whole job."""
        watch = asyncio.create_task(self._watch_processor_time())
        if isinstance(self._job.loop, ClosedLoop):
            await asyncio.gather(*(self._caller() for _ in range(self._job.loop.concurrency)))
        else:
            await self._send_at_rate(self._job.loop)
        await watch
        return self._tally

    async def _watch_processor_time(self) -> None:
        await asyncio.sleep(self._from - time.perf_counter())
        before, start = time.process_time(), time.perf_counter()
        await asyncio.sleep(self._until - time.perf_counter())
        self._tally.cpu_seconds = time.process_time() - before
        self._tally.seconds = time.perf_counter() - start

    async def _caller(self) -> None:
        """One caller of a closed loop: an answer counts in the time in which it comes."""
        while (due := time.perf_counter()) < self._until:
            code = await self._call(due)
            if self._from <= (now := time.perf_counter()) < self._until:
                self._tally.record(code, now - due)

    async def _send_at_rate(self, loop: OpenLoop) -> None:
        start = time.perf_counter()
        async with asyncio.TaskGroup() as calls:
            for due_seconds in loop.due_seconds():
                if (due := start + due_seconds) >= self._until:
                    break
                # Also where it is late already: answers must be taken meanwhile.
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                calls.create_task(self._call_due(due))

    async def _call_due(self, due: float) -> None:
        """One call of an open loop: its time counts from when it was due, and it counts then."""
        behind = time.perf_counter() - due
        code = await self._call(due)
        if due >= self._from:
            self._tally.record(code, time.perf_counter() - due)
            self._tally.behind.record(behind)

    async def _call(self, due: float) -> str:
        request, method = next(self._next)
        timeout = max(0.0, due + self._job.deadline_seconds - time.perf_counter())
        call = method(request, timeout=timeout, metadata=self._job.connection.metadata)
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return error.code().name
        if due >= self._from:
            self._answers += 1
            if self._answers % LOOK_AT_ONE_IN == 1:
                self._tally.look_at(await call.trailing_metadata())
        return "OK"
