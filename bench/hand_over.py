"""What it takes to have a thread do something: an executor, and the server's own threads.

In microseconds, medians of rounds that alternate: the way `there`, the way `back`, and what the
`event_loop` spends on both. The job sweeps the caches, as a network does.

    python bench/hand_over.py
"""

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from convlens.server.app import run_loop
from convlens.server.threads import Threads

ROUNDS = 300
PAUSE_SECONDS = 0.001  # so that the thread sleeps when its next job comes
SWEPT = np.ones(1 << 24, np.float32)  # 64 MiB

Times = tuple[float, float]


def main() -> None:
    """Measure and print."""
    run_loop(_compare())


async def _compare() -> None:
    loop, threads, executor = asyncio.get_running_loop(), Threads(1, "own"), ThreadPoolExecutor(1)
    ways: dict[str, Callable[[], Awaitable[Times]]] = {
        "ThreadPoolExecutor": lambda: loop.run_in_executor(executor, _job),
        "Threads": lambda: threads.run(_job),
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            spent, asked = -time.thread_time(), time.perf_counter()
            begun, ended = await way()
            answered, spent = time.perf_counter(), spent + time.thread_time()
            found[name].append((begun - asked, answered - ended, spent))
            await asyncio.sleep(PAUSE_SECONDS)
    threads.close()
    for name, rounds in found.items():
        medians = [round(1e6 * statistics.median(values)) for values in zip(*rounds, strict=True)]
        print(name, json.dumps(dict(zip(("there", "back", "event_loop"), medians, strict=True))))


def _job() -> Times:
    start = time.perf_counter()
    SWEPT.sum()
    return start, time.perf_counter()


if __name__ == "__main__":
    main()
