"""Pictures that wait for the same model share one inference.

The batcher never waits for company: an idle model runs the first picture at once, and what arrives
during a run forms the next batch.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from convlens.server.errors import DeadlineExceededError, ModelNotReadyError

Array = np.ndarray[Any, np.dtype[Any]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inferred:
    """What one picture got out of its batch.

    Attributes:
        output: (classes,): the picture's own row.
        queue_seconds: from being submitted until its batch ran.
        infer_seconds: the batch's run.
        batch_size: how many pictures shared it.
    """

    output: Array
    queue_seconds: float
    infer_seconds: float
    batch_size: int


@dataclass(frozen=True)
class _Waiting:
    tensor: Array
    deadline: float
    submitted: float
    answer: "asyncio.Future[Inferred]"


class Batcher:
    """Collects the waiting inputs of one model and runs them together, one batch at a time.

    Args:
        run: (n, ...) -> (n, classes), called in a thread of the batcher's own.
        max_batch_size: the most inputs that share one run.
        on_batch: is told of each run: how many inputs, how many seconds.
    """

    def __init__(
        self,
        run: Callable[[Array], Array],
        max_batch_size: int,
        on_batch: Callable[[int, float], None],
    ) -> None:
        self._run = run
        self._max_batch_size = max_batch_size
        self._on_batch = on_batch
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="infer")
        self._closing = False
        self._worker = asyncio.create_task(self._work())

    def __len__(self) -> int:
        """How many inputs are waiting."""
        return len(self._waiting)

    async def submit(self, tensor: Array, deadline: float) -> Inferred:
        """Wait for a place in a batch, and for its run.

        A caller that is cancelled leaves the queue; its batch-mates do not notice.

        Args:
            tensor: one input without the batch axis.
            deadline: as of `time.monotonic`; infinite for none.

        Raises:
            DeadlineExceededError: the deadline passed before the input's turn came.
            ModelNotReadyError: the batcher was closed.
        """
        if self._closing:
            raise ModelNotReadyError("the model is being unloaded")
        answer: asyncio.Future[Inferred] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(tensor, deadline, time.monotonic(), answer))
        self._arrived.set()
        return await answer

    async def close(self) -> None:
        """Take nothing more, answer what still waits, and end the thread."""
        self._closing = True
        self._arrived.set()
        await self._worker
        self._thread.shutdown()

    async def _work(self) -> None:
        while self._waiting or not self._closing:
            await self._arrived.wait()
            batch = self._next_batch()
            if batch:
                await self._answer(batch)
            if not (self._waiting or self._closing):
                self._arrived.clear()

    def _next_batch(self) -> list[_Waiting]:
        """Take what may run together, and drop what nobody waits for any more."""
        now = time.monotonic()
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._max_batch_size:
            waiting = self._waiting.popleft()
            if waiting.answer.done():  # its caller went away
                continue
            if waiting.deadline <= now:
                waiting.answer.set_exception(
                    DeadlineExceededError("the deadline passed while the picture was queued")
                )
                continue
            batch.append(waiting)
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        """Run one batch and give each caller its row, or its share of the failure."""
        start = time.monotonic()
        tensors = [waiting.tensor for waiting in batch]
        try:
            outputs = await asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: self._run(np.stack(tensors))
            )
        except Exception as error:
            logger.exception("a batch of %d failed", len(batch))
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            return
        seconds = time.monotonic() - start
        self._on_batch(len(batch), seconds)
        for waiting, output in zip(batch, outputs, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(
                    Inferred(output, start - waiting.submitted, seconds, len(batch))
                )
