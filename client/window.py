"""Many questions asked several at a time, and never far ahead of whoever reads the answers."""

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
)
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")

# How many questions may be begun and not yet read, for each that is in flight: with one, a slow
# answer at the head would leave places in flight empty.
READ_AHEAD = 2


def ask_many(
    questions: Iterable[Question],
    ask: Callable[[int, Question], Answer],
    *,
    concurrency: int,
    ordered: bool,
) -> Generator[Answer, None, None]:
    """Ask in threads.

    Args:
        questions: read as places become free, `READ_AHEAD` x concurrency ahead at the most.
        ask: gives the answer to the question with this index.
        concurrency: how many are asked at a time.
        ordered: whether answers come in the order of the questions, or of their completion.
    """
    threads = ThreadPoolExecutor(concurrency, thread_name_prefix="convlens-client")
    waiting: deque[Future[Answer]] = deque()
    try:
        for index, question in enumerate(questions):
            waiting.append(threads.submit(ask, index, question))
            while waiting and (
                len(waiting) == READ_AHEAD * concurrency or _has_answer(waiting, ordered)
            ):
                yield _next_answer(waiting, ordered)
        while waiting:
            yield _next_answer(waiting, ordered)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _has_answer(waiting: deque[Future[Answer]], ordered: bool) -> bool:
    return waiting[0].done() if ordered else any(future.done() for future in waiting)


def _next_answer(waiting: deque[Future[Answer]], ordered: bool) -> Answer:
    if ordered:
        return waiting.popleft().result()
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    future = next(future for future in waiting if future in done)
    waiting.remove(future)
    return future.result()


async def ask_many_async(
    questions: Iterable[Question] | AsyncIterable[Question],
    ask: Callable[[int, Question], Awaitable[Answer]],
    *,
    concurrency: int,
    ordered: bool,
) -> AsyncGenerator[Answer, None]:
    """Ask in tasks; see `ask_many`. An answer never waits for the next question."""
    in_flight = asyncio.Semaphore(concurrency)
    unread = asyncio.Semaphore(READ_AHEAD * concurrency - 1)  # the last one's place is its own
    begun: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue()
    running: set[asyncio.Task[Answer]] = set()

    async def answer(index: int, question: Question) -> Answer:
        async with in_flight:
            return await ask(index, question)

    async def read() -> None:
        try:
            index = 0
            async for question in _each(questions):
                task = asyncio.create_task(answer(index, question))
                running.add(task)
                task.add_done_callback(running.discard)
                if ordered:
                    begun.put_nowait(task)
                else:
                    task.add_done_callback(begun.put_nowait)
                index += 1
                await unread.acquire()
        finally:
            if running:
                await asyncio.wait(running)
            begun.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while (task := await begun.get()) is not None:
            yield await task
            unread.release()
        await reader
    finally:
        tasks = (reader, *running)
        for unfinished in tasks:
            unfinished.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _each(
    questions: Iterable[Question] | AsyncIterable[Question],
) -> AsyncIterator[Question]:
    if isinstance(questions, AsyncIterable):
        async for question in questions:
            yield question
    else:
        for question in questions:
            yield question
