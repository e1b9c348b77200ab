"""Requests that wait for the same model share one inference.

An idle model runs the first request at once, and what arrives during a run forms the next batch.
What waits may be pictures still, which the thread that runs them decodes one after the other; what
arrives meanwhile joins them.
Short runs go on the event loop, a batch being what arrives in the same turn of it; where requests
come one by one each is run as it comes.
Between runs a batch may wait for company, where a delay is allowed. A model may have several runs
going on at the same time; all of them take their batches from the one queue.
"""

import asyncio
import contextlib
import functools
import logging
import math
import time
from collections.abc import Callable

from convlens.server.batch_run import Ran, run_batch
from convlens.server.batch_time import BatchTime
from convlens.server.caller import CALLER
from convlens.server.errors import ModelNotReadyError
from convlens.server.short_runs import Shapes, ShortRuns
from convlens.server.tensor import Array
from convlens.server.threads import Threads
from convlens.server.waiting_line import Inferred, Inputs, MakeInputs, Waiting, WaitingLine

logger = logging.getLogger(__name__)


class Batcher:
    """Collects the waiting requests of one model and runs them together.

    Args:
        run: the inputs of a graph -> its outputs, called in threads of the batcher's own.
        max_batch_size: the most rows that share one run; 1 where requests share none.
        on_batch: is told of each run: how many rows, how many seconds.
        batch_time: what the runs teach, and what predicts the next ones.
        max_delay_seconds: how long a request may wait for company while the model is busy.
        instances: how many runs may go on at the same time.
    """

    def __init__(
        self,
        run: Callable[[Inputs], tuple[Array, ...]],
        max_batch_size: int,
        on_batch: Callable[[int, float], None],
        *,
        batch_time: BatchTime,
        max_delay_seconds: float = 0.0,
        instances: int = 1,
    ) -> None:
        self._run = run
        self._max_batch_size = max_batch_size
        self._on_batch = on_batch
        self._batch_time = batch_time
        self._max_delay_seconds = max_delay_seconds
        self._last_run = -math.inf
        self._short_runs = ShortRuns()
        self._waiting = WaitingLine(batch_time)
        self._arrived = asyncio.Event()
        self._threads = Threads(instances, "infer")
        self._in_threads = 0  # runs that go on there
        self._turn_is_taken = False
        self._last_was_alone = True
        self._closing = False
        self._workers = [asyncio.create_task(self._work()) for _ in range(instances)]

    def __len__(self) -> int:
        """How many rows are waiting."""
        return self._waiting.rows

    async def submit(self, inputs: Inputs, rows: int, deadline: float) -> Inferred:
        """Wait for a place in a batch, and for its run.

        Requests share a run where the shapes of their rows agree. A caller that is cancelled leaves
        the queue; its batch-mates do not notice.

        Args:
            inputs: of the graph; each (rows, ...) where requests may share a run.
            rows: how many places of a batch they take; at most `max_batch_size`.
            deadline: as of `time.monotonic`; infinite for none.

        Raises:
            DeadlineExceededError: the deadline passed before the request's turn came.
            ModelNotReadyError: the batcher was closed.
        """
        if self._closing:
            raise ModelNotReadyError("the model is being unloaded")
        row_shapes = self._row_shapes(inputs)
        is_short = self._short_runs.admits(row_shapes, rows)
        if is_short and self._is_idle and time.monotonic() < deadline:
            return self._run_at_once(inputs, rows, row_shapes)
        return await self._wait(inputs, rows, row_shapes, deadline)

    async def submit_unmade(
        self, make: MakeInputs, row_shapes: Shapes, deadline: float
    ) -> Inferred:
        """Have one row's inputs made in the thread that runs it.

        That saves the ways from a thread that makes them to the event loop, and to another thread.

        Args:
            make: makes them; what it raises is raised here.
            row_shapes: that each of them will have, without the axis of the rows.
            deadline: as of `time.monotonic`; infinite for none.

        Raises:
            DeadlineExceededError: the deadline passed before the request's turn came.
            ModelNotReadyError: the batcher was closed.
        """
        if self._closing:
            raise ModelNotReadyError("the model is being unloaded")
        return await self._wait(make, 1, row_shapes, deadline)

    @property
    def is_free(self) -> bool:
        """Whether a request need not wait for any other, nor for company."""
        is_busy = self._waiting or self._in_threads == len(self._workers)
        return not (is_busy or self._max_delay_seconds)

    async def _wait(
        self, inputs: Inputs | MakeInputs, rows: int, row_shapes: Shapes, deadline: float
    ) -> Inferred:
        """Wait for a place in a batch, and for its run."""
        answer: asyncio.Future[Inferred] = asyncio.get_running_loop().create_future()
        priority = CALLER.get().priority
        self._waiting.put(
            Waiting(inputs, rows, row_shapes, deadline, priority, time.monotonic(), answer)
        )
        self._arrived.set()
        return await answer

    @property
    def _is_idle(self) -> bool:
        """Whether a short request may run now: where others come in this turn, they share."""
        return self.is_free and self._last_was_alone and not self._turn_is_taken

    def _run_at_once(self, inputs: Inputs, rows: int, row_shapes: Shapes) -> Inferred:
        """Run a request alone on the event loop, one in each turn of it: the next ones share."""
        self._turn_is_taken = True
        asyncio.get_running_loop().call_soon(self._end_turn)
        start = time.monotonic()
        try:
            outputs = self._run(inputs)
        except Exception:
            self._short_runs.forget()
            raise
        ran = Ran([outputs], rows, row_shapes, start, time.monotonic() - start, [0.0])
        self._learn(ran, on_the_loop=True)
        return Inferred(outputs, 0.0, ran.seconds, rows)

    def _end_turn(self) -> None:
        self._turn_is_taken = False

    async def close(self) -> None:
        """Take nothing more, answer what still waits, and end the threads."""
        self._closing = True
        self._arrived.set()
        await asyncio.gather(*self._workers)
        self._threads.close()

    async def _work(self) -> None:
        while self._waiting or not self._closing:
            await self._arrived.wait()
            if self._max_delay_seconds:
                await self._wait_for_company()
            batch = self._waiting.take(self._share())
            # Before the run: another worker would go round and round while the queue is empty.
            if not (self._waiting or self._closing):
                self._arrived.clear()
            if batch:
                await self._answer(batch)

    async def _wait_for_company(self) -> None:
        """Let a batch fill up, right after another run; an idle model does not wait."""
        if time.monotonic() > self._last_run + self._max_delay_seconds:
            return
        # Asked anew each time: what arrives may have a tighter deadline than those before it, and
        # another worker may have taken them all.
        while self._waiting and self._waiting.rows < self._max_batch_size and not self._closing:
            until = self._waiting.company_until(self._max_delay_seconds, self._max_batch_size)
            seconds = until - time.monotonic()
            if seconds <= 0.0:
                break
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._arrived.wait()
        self._arrived.set()

    def _share(self) -> int:
        """How many rows a batch may have: runs that could begin beside it get their part.

        Short runs go one after the other, and are cheaper together.
        """
        if self._short_runs.last_was_short:
            return self._max_batch_size
        free = len(self._workers) - self._in_threads
        return min(self._max_batch_size, -(-self._waiting.rows // free))

    async def _answer(self, batch: list[Waiting], *, may_grow: bool = True) -> None:
        """Run one batch and give each caller its rows.

        Where a shared run fails, each of its requests runs alone: one that the model cannot digest
        fails alone.
        """
        rows = sum(waiting.rows for waiting in batch)
        is_made = not any(callable(waiting.inputs) for waiting in batch)
        on_the_loop = is_made and self._short_runs.admits(batch[0].row_shapes, rows)
        try:
            if on_the_loop:
                ran = run_batch(self._run, batch)
            else:
                ran = await self._run_in_thread(batch, self._max_batch_size if may_grow else 0)
        except Exception as error:  # noqa: BLE001 - it is the callers', and logged at the edge
            self._short_runs.forget()
            if len(batch) == 1:
                if not batch[0].answer.done():
                    batch[0].answer.set_exception(error)
                return
            logger.warning("a batch of %d requests failed (%s): each runs alone", len(batch), error)
            for waiting in batch:
                if not waiting.answer.done():
                    await self._answer([waiting], may_grow=False)
            return
        self._share_out(batch, ran, on_the_loop=on_the_loop)
        if on_the_loop:
            await asyncio.sleep(0)  # other requests have their turn between runs

    async def _run_in_thread(self, batch: list[Waiting], most: int) -> Ran:
        self._in_threads += 1
        try:
            more = functools.partial(self._waiting.take_more, batch, most)
            return await self._threads.run(run_batch, self._run, batch, more)
        finally:
            self._in_threads -= 1

    def _learn(self, ran: Ran, *, on_the_loop: bool) -> None:
        """Take note of a run, for the next ones and for the metrics."""
        self._last_run = ran.start + ran.seconds
        self._batch_time.learn(ran.rows, ran.seconds + sum(ran.making_seconds))
        self._short_runs.learn(ran.row_shapes, ran.rows, ran.seconds, on_the_loop=on_the_loop)
        self._on_batch(ran.rows, ran.seconds)

    def _share_out(self, batch: list[Waiting], ran: Ran, *, on_the_loop: bool) -> None:
        """Learn from a run, and give each caller its rows."""
        if ran.rows:
            self._learn(ran, on_the_loop=on_the_loop)
        self._last_was_alone = len(batch) == 1
        for waiting, outcome, making in zip(batch, ran.outcomes, ran.making_seconds, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(outcome, Exception):
                waiting.answer.set_exception(outcome)
            else:
                queue_seconds = ran.start - waiting.submitted - making
                waiting.answer.set_result(Inferred(outcome, queue_seconds, ran.seconds, ran.rows))

    def _row_shapes(self, inputs: Inputs) -> Shapes:
        row_axes = slice(1 if self._max_batch_size > 1 else 0, None)
        return tuple([array.shape[row_axes] for array in inputs])
