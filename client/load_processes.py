"""A job done by one process or by several at once."""

import asyncio
import multiprocessing
from collections.abc import Coroutine
from dataclasses import replace
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError
from typing import Any, TypeVar

from convlens.client.errors import ClientError
from convlens.client.load import ClosedLoop, Job, measure
from convlens.client.load_result import Tally

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run in an event loop of its own: uvloop, which costs less, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def measure_with(processes: int, job: Job) -> Tally:
    """Do the job, split between processes that begin together.

    Raises:
        ClientError: a process failed.
    """
    if isinstance(job.loop, ClosedLoop):
        processes = min(processes, job.loop.concurrency)
    if processes == 1:
        return run(measure(job))
    context = multiprocessing.get_context("spawn")  # gRPC does not outlive a fork
    ready = context.Barrier(processes)
    pipes = []
    for index in range(processes):
        receiver, sender = context.Pipe(duplex=False)
        share = replace(job, loop=job.loop.share(index, processes))
        context.Process(target=_work, args=(sender, ready, share), daemon=True).start()
        sender.close()
        pipes.append(receiver)
    total = Tally(job.deadline_seconds)
    for receiver in pipes:
        total.add(_received(receiver))
    return total


def _work(results: Pipe, ready: Barrier, job: Job) -> None:
    """What each process does."""
    try:
        ready.wait()
        results.send(run(measure(job)))
    except (KeyboardInterrupt, BrokenBarrierError):
        ready.abort()


def _received(pipe: Pipe) -> Tally:
    try:
        tally: Tally = pipe.recv()
    except EOFError as error:
        raise ClientError("INTERNAL", "a process of the load generator ended early") from error
    return tally
