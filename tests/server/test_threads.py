"""Jobs that the event loop hands to threads."""

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator

import pytest

from convlens.server.threads import Threads


@pytest.fixture
async def thread() -> AsyncIterator[Threads]:
    threads = Threads(1, "worker")
    yield threads
    threads.close()


async def test_the_outcome_of_a_job_is_what_it_returns_or_raises(thread: Threads) -> None:
    assert await thread.run(max, 1, 2) == 2
    with pytest.raises(ValueError, match="invalid literal"):
        await thread.run(int, "x")
    assert (await thread.run(threading.current_thread)).name == "worker_0"


async def test_a_job_that_is_cancelled_before_its_turn_is_not_begun(thread: Threads) -> None:
    may_go_on = threading.Event()
    begun: list[int] = []
    first = thread.run(may_go_on.wait, 20)
    second, third = thread.run(begun.append, 2), thread.run(begun.append, 3)
    second.cancel()
    may_go_on.set()
    assert await first
    await third
    assert begun == [3]


async def test_a_job_that_is_cancelled_while_it_goes_on_leaves_its_thread_in_order(
    thread: Threads,
) -> None:
    begun, may_go_on = threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        may_go_on.wait(20)

    abandoned = thread.run(job)
    await asyncio.to_thread(begun.wait, 20)
    abandoned.cancel()
    may_go_on.set()
    assert await thread.run(max, 1, 2) == 2
    assert abandoned.cancelled()


async def test_a_thread_keeps_nothing_of_a_job_that_is_done(thread: Threads) -> None:
    class Picture:
        pass

    picture = Picture()
    gone = weakref.ref(picture)
    assert await thread.run(lambda it: it is not None, picture)
    del picture
    await thread.run(max, 1, 2)  # the job before is over, not only its outcome known
    assert gone() is None


async def test_closing_waits_for_the_jobs_that_were_handed_over() -> None:
    threads = Threads(2, "worker")
    done: list[int] = []
    for number in range(10):
        threads.run(done.append, number)
    threads.close()
    assert sorted(done) == list(range(10))
