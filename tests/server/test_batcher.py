"""Which requests share a run, and in what order."""

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest

from convlens.server.batch_time import BatchTime
from convlens.server.batcher import Batcher
from convlens.server.errors import InvalidPictureError
from convlens.server.tensor import Array


class Doubler:
    """A model that doubles its input, once it may, and remembers the shapes of its runs."""

    def __init__(self) -> None:
        self.may_run = threading.Event()
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        assert self.may_run.wait(20)
        self.shapes.append(inputs[0].shape)
        return (inputs[0] * 2,)


@pytest.fixture
def doubler() -> Doubler:
    return Doubler()


@pytest.fixture
async def batcher(doubler: Doubler) -> AsyncIterator[Batcher]:
    batcher = Batcher(doubler, max_batch_size=4, on_batch=lambda *_: None, batch_time=BatchTime())
    yield batcher
    doubler.may_run.set()
    await batcher.close()


async def _run_all(
    batcher: Batcher, doubler: Doubler, shapes: list[tuple[int, int]]
) -> list[tuple[int, ...]]:
    """Submit ones of these shapes while another run goes on; returns the shapes that then ran."""
    calls = [asyncio.ensure_future(batcher.submit((np.ones((1, 9)),), 1, math.inf))]
    await asyncio.sleep(0.05)
    calls += [
        asyncio.ensure_future(batcher.submit((np.ones(shape),), shape[0], math.inf))
        for shape in shapes
    ]
    await asyncio.sleep(0.05)
    assert len(batcher) == sum(rows for rows, _ in shapes)
    doubler.may_run.set()
    answers = await asyncio.gather(*calls)
    assert len(batcher) == 0
    for shape, answer in zip([(1, 9), *shapes], answers, strict=True):
        np.testing.assert_array_equal(answer.outputs[0], np.full(shape, 2.0))
    return doubler.shapes[1:]


async def test_rows_fill_a_batch_up_and_never_more(batcher: Batcher, doubler: Doubler) -> None:
    ran = await _run_all(batcher, doubler, [(3, 1), (2, 1), (1, 1), (2, 1)])
    assert ran == [(4, 1), (4, 1)]  # 3 + 1, then 2 + 2


async def test_rows_of_other_shapes_wait_for_their_own_batch(
    batcher: Batcher, doubler: Doubler
) -> None:
    ran = await _run_all(batcher, doubler, [(1, 5), (1, 7), (1, 5), (1, 7), (1, 5)])
    assert ran == [(3, 5), (2, 7)]


async def test_as_many_runs_go_on_at_once_as_there_are_instances() -> None:
    both_run = threading.Barrier(2)

    def run(inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        both_run.wait(20)  # breaks where the second run does not begin during the first
        time.sleep(0.01)  # too long for the event loop
        return inputs

    batcher = Batcher(
        run, max_batch_size=1, on_batch=lambda *_: None, batch_time=BatchTime(), instances=2
    )
    calls = [batcher.submit((np.full((1, 1), index),), 1, math.inf) for index in range(6)]
    answers = await asyncio.wait_for(asyncio.gather(*calls), 30)
    assert [answer.outputs[0].item() for answer in answers] == list(range(6))
    await batcher.close()


async def test_a_batch_leaves_a_part_to_runs_that_could_begin_and_none_to_those_under_way(
    doubler: Doubler,
) -> None:
    batcher = Batcher(
        doubler, max_batch_size=9, on_batch=lambda *_: None, batch_time=BatchTime(), instances=2
    )
    row = (np.ones((1, 3)),)
    calls = [asyncio.ensure_future(batcher.submit(row, 1, math.inf)) for _ in range(4)]
    await asyncio.sleep(0.05)
    assert len(batcher) == 0  # two and two
    calls += [asyncio.ensure_future(batcher.submit(row, 1, math.inf)) for _ in range(6)]
    await asyncio.sleep(0.05)
    assert len(batcher) == 6
    doubler.may_run.set()
    await asyncio.gather(*calls)
    await batcher.close()
    assert sorted(doubler.shapes) == [(2, 3), (2, 3), (6, 3)]


async def test_what_arrives_while_inputs_are_made_joins_their_batch(
    batcher: Batcher, doubler: Doubler
) -> None:
    threads = []
    others_came = threading.Event()

    def make() -> tuple[Array, ...]:
        threads.append(threading.current_thread().name)
        assert others_came.wait(20)
        return (np.ones((1, 3)),)

    assert batcher.is_free
    calls = [asyncio.ensure_future(batcher.submit_unmade(make, ((3,),), math.inf))]
    await asyncio.sleep(0.05)
    assert not batcher.is_free
    calls += [
        asyncio.ensure_future(batcher.submit((np.ones((1, 3)),), 1, math.inf)),
        asyncio.ensure_future(batcher.submit_unmade(make, ((3,),), math.inf)),
        asyncio.ensure_future(batcher.submit((np.ones((1, 3)),), 1, math.inf)),
        asyncio.ensure_future(batcher.submit_unmade(make, ((3,),), math.inf)),
    ]
    await asyncio.sleep(0.05)
    others_came.set()
    doubler.may_run.set()
    answers = await asyncio.gather(*calls)
    assert [answer.batch_size for answer in answers] == [4, 4, 4, 4, 1]
    assert set(threads) == {"infer_0"}
    assert all(answer.outputs[0].tolist() == [[2.0, 2.0, 2.0]] for answer in answers)


async def test_inputs_that_cannot_be_made_leave_their_batch_as_it_is(
    batcher: Batcher, doubler: Doubler
) -> None:
    def make() -> tuple[Array, ...]:
        return (np.ones((1, 3)),)

    def fail() -> tuple[Array, ...]:
        raise InvalidPictureError("not a picture")

    calls = [
        asyncio.ensure_future(batcher.submit_unmade(how, ((3,),), math.inf))
        for how in (make, make, fail, make)
    ]
    await asyncio.sleep(0.05)
    doubler.may_run.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(answers.pop(2), InvalidPictureError)
    assert [answer.batch_size for answer in answers if not isinstance(answer, BaseException)] == [
        3,
        3,
        3,
    ]
    assert doubler.shapes == [(3, 3)]


async def test_requests_of_a_batch_that_fails_run_alone_whoever_else_waits() -> None:
    def make() -> tuple[Array, ...]:
        time.sleep(0.005)
        return (np.ones((1, 3)),)

    sizes = []

    def run(inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        sizes.append(len(inputs[0]))
        raise RuntimeError("cannot run")

    batcher = Batcher(run, max_batch_size=4, on_batch=lambda *_: None, batch_time=BatchTime())
    calls = [
        asyncio.ensure_future(batcher.submit_unmade(make, ((3,),), math.inf)) for _ in range(8)
    ]
    errors = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
    await batcher.close()
    assert all(isinstance(error, RuntimeError) for error in errors)
    assert sizes == [4, 1, 1, 1, 1] * 2


async def test_inputs_that_cannot_be_made_fail_their_own_request(
    batcher: Batcher, doubler: Doubler
) -> None:
    def make() -> tuple[Array, ...]:
        raise InvalidPictureError("not a picture")

    doubler.may_run.set()
    with pytest.raises(InvalidPictureError, match="not a picture"):
        await batcher.submit_unmade(make, ((3,),), math.inf)
    assert (await batcher.submit((np.ones((1, 3)),), 1, math.inf)).batch_size == 1


async def test_a_batch_is_closed_where_one_more_would_miss_its_tightest_deadline(
    doubler: Doubler,
) -> None:
    batch_time = BatchTime()
    for rows in [1, 2, 3, 4] * 5:
        batch_time.learn(rows, 100.0 * rows)
    batcher = Batcher(doubler, max_batch_size=4, on_batch=lambda *_: None, batch_time=batch_time)
    row = (np.ones((1, 3)),)
    calls = [asyncio.ensure_future(batcher.submit(row, 1, math.inf))]
    await asyncio.sleep(0.05)
    spare_seconds = 250.0  # two rows take 200 s, three 300 s
    calls += [
        asyncio.ensure_future(batcher.submit(row, 1, deadline))
        for deadline in (time.monotonic() + spare_seconds, math.inf, math.inf)
    ]
    await asyncio.sleep(0.05)
    doubler.may_run.set()
    await asyncio.gather(*calls)
    await batcher.close()
    assert doubler.shapes == [(1, 3), (2, 3), (1, 3)]


async def test_a_delay_fills_batches_of_a_busy_model_and_never_holds_up_an_idle_one(
    doubler: Doubler,
) -> None:
    doubler.may_run.set()
    batcher = Batcher(
        doubler,
        max_batch_size=3,
        on_batch=lambda *_: None,
        batch_time=BatchTime(),
        max_delay_seconds=30.0,
    )
    row = (np.ones((1, 3)),)
    async with asyncio.timeout(20):
        await batcher.submit(row, 1, math.inf)  # idle: at once
        calls = []
        for _ in range(3):
            calls.append(asyncio.ensure_future(batcher.submit(row, 1, math.inf)))
            await asyncio.sleep(0.05)
        await asyncio.gather(*calls)  # full: before the delay is over
    await batcher.close()
    assert doubler.shapes == [(1, 3), (3, 3)]


async def test_a_delay_ends_in_time_for_the_deadline(doubler: Doubler) -> None:
    doubler.may_run.set()
    batch_time = BatchTime()
    batch_time.learn(3, 1e6)  # whatever is run next, three rows will be thought to take long
    batcher = Batcher(
        doubler,
        max_batch_size=3,
        on_batch=lambda *_: None,
        batch_time=batch_time,
        max_delay_seconds=600.0,
    )
    row = (np.ones((1, 3)),)
    await batcher.submit(row, 1, math.inf)
    deadline = time.monotonic() + 600.0
    answer = await asyncio.wait_for(batcher.submit(row, 1, deadline), 60)
    await batcher.close()
    assert answer.batch_size == 1


async def test_a_delay_ends_in_time_for_the_deadline_of_one_that_comes_later(
    doubler: Doubler,
) -> None:
    doubler.may_run.set()
    batch_time = BatchTime()
    batch_time.learn(3, 1e6)
    batcher = Batcher(
        doubler,
        max_batch_size=3,
        on_batch=lambda *_: None,
        batch_time=batch_time,
        max_delay_seconds=600.0,
    )
    row = (np.ones((1, 3)),)
    await batcher.submit(row, 1, math.inf)
    patient = asyncio.ensure_future(batcher.submit(row, 1, math.inf))
    await asyncio.sleep(0.05)
    hasty = batcher.submit(row, 1, time.monotonic() + 600.0)
    answers = await asyncio.wait_for(asyncio.gather(patient, hasty), 60)
    await batcher.close()
    assert [answer.batch_size for answer in answers] == [2, 2]
