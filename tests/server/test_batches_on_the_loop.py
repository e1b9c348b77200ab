"""Short runs go on the event loop, and share it."""

import asyncio
import math
import threading

import numpy as np
import pytest

from convlens.server.batch_time import BatchTime
from convlens.server.batcher import Batcher
from convlens.server.tensor import Array


async def test_rows_of_another_size_leave_the_event_loop_alone() -> None:
    threads: list[tuple[tuple[int, ...], str]] = []

    def run(inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        threads.append((inputs[0].shape, threading.current_thread().name))
        return inputs

    batch_time = BatchTime()
    batcher = Batcher(run, max_batch_size=4, on_batch=lambda *_: None, batch_time=batch_time)
    for shape in [(1, 3)] * 20 + [(1, 4000)]:
        batch_time.learn(1, 1e-6)  # however slow this machine is, short runs are expected
        await batcher.submit((np.ones(shape),), 1, math.inf)
    await batcher.close()
    main = threading.current_thread().name
    assert ((1, 3), main) in threads
    assert threads[-1][1] != main


async def test_short_requests_that_come_together_share_a_run() -> None:
    runs: list[int] = []

    def run(inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        runs.append(len(inputs[0]))
        return inputs

    batcher = Batcher(run, max_batch_size=8, on_batch=lambda *_: None, batch_time=BatchTime())
    bursts: list[list[int]] = []
    for _ in range(100):  # a run that the machine held up is not short: so is the next burst not
        if len(bursts) % 4 == 0:
            await batcher.submit((np.ones((1, 3)),), 1, math.inf)
        runs.clear()
        calls = [batcher.submit((np.full((1, 3), index),), 1, math.inf) for index in range(5)]
        answers = await asyncio.gather(*calls)
        assert [answer.outputs[0][0, 0] for answer in answers] == list(range(5))
        bursts.append(list(runs))
    await batcher.close()
    assert [1, 4] in bursts  # the one before had come alone
    assert [5] in bursts


async def test_a_short_run_that_fails_fails_its_own_request() -> None:
    fails = False

    def run(inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        if fails:
            raise ValueError("no digits")
        return inputs

    batcher = Batcher(run, max_batch_size=8, on_batch=lambda *_: None, batch_time=BatchTime())
    row = (np.ones((1, 3)),)
    for _ in range(20):
        await batcher.submit(row, 1, math.inf)
        fails = True
        with pytest.raises(ValueError, match="no digits"):
            await batcher.submit(row, 1, math.inf)
        fails = False
    await batcher.close()
