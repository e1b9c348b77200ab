"""Requests of a stream are answered several at a time, and never more than its caller reads."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

Request = TypeVar("Request")
Response = TypeVar("Response")


async def answer_stream(
    requests: AsyncIterator[Request],
    answer: Callable[[Request], Awaitable[Response]],
    window: int,
    *,
    in_order: bool,
) -> AsyncIterator[Response]:
    """Answer requests as they come.

    A place in the window is free again once its answer has been written: a caller that stops
    reading stops being served.

    Args:
        requests: of the stream.
        answer: makes one answer, and raises nothing.
        window: the most requests that may be in flight.
        in_order: whether answers come in the order of the requests, or of their completion.

    Raises:
        Exception: what the requests raise, once all that came before is answered.
    """
    places = asyncio.Semaphore(window)
    answers: asyncio.Queue[asyncio.Task[Response] | None] = asyncio.Queue()
    faults: list[Exception] = []

    async def run(request: Request) -> Response:
        return await answer(request)

    async def read() -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                try:
                    async for request in requests:
                        await places.acquire()
                        task = tasks.create_task(run(request))
                        if in_order:
                            answers.put_nowait(task)
                        else:
                            task.add_done_callback(answers.put_nowait)
                except Exception as error:  # noqa: BLE001 - it is raised once the others are answered
                    faults.append(error)
        finally:
            answers.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while (task := await answers.get()) is not None:
            yield await task
            places.release()
        await reader
    finally:
        reader.cancel()
    if faults:
        raise faults[0]
