"""Who waits for a run of a model, in what order, and what may run together."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from convlens.server.batch_time import BatchTime
from convlens.server.caller import Priority
from convlens.server.errors import DeadlineExceededError
from convlens.server.short_runs import Shapes
from convlens.server.tensor import Array

Inputs = tuple[Array, ...]
MakeInputs = Callable[[], Inputs]


class Inferred(NamedTuple):
    """What one request got out of its batch.

    Attributes:
        outputs: of the graph, the request's own rows.
        queue_seconds: from being submitted until its batch began to run, without what it took to
            make its inputs.
        infer_seconds: the batch's run.
        batch_size: how many rows shared it.
    """

    outputs: tuple[Array, ...]
    queue_seconds: float
    infer_seconds: float
    batch_size: int


class Waiting(NamedTuple):
    """A request that waits.

    Attributes:
        inputs: of the graph, or what makes them in the thread that runs it.
        rows: how many places of a batch they take.
        row_shapes: of each input; requests share a run where these agree.
        deadline: as of `time.monotonic`; infinite for none.
        priority: of the request.
        submitted: when, as of `time.monotonic`.
        answer: is given to its caller; done where nobody waits for it any more.
    """

    inputs: Inputs | MakeInputs
    rows: int
    row_shapes: Shapes
    deadline: float
    priority: Priority
    submitted: float
    answer: asyncio.Future[Inferred]


class WaitingLine:
    """Requests by priority, and within one priority first come, first served.

    The event loop puts and takes; a thread may have more for the batch that it is about to run.

    Args:
        batch_time: predicts runs, so that a batch is closed before it makes a deadline be missed.

    Attributes:
        rows: how many rows are waiting.
    """

    def __init__(self, batch_time: BatchTime) -> None:
        self.rows = 0
        self._batch_time = batch_time
        self._line: deque[Waiting] = deque()
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._line)

    def put(self, waiting: Waiting) -> None:
        """At the end, but before what is less urgent."""
        with self._lock:
            self.rows += waiting.rows
            position = len(self._line)
            while position and self._line[position - 1].priority > waiting.priority:
                position -= 1
            self._line.insert(position, waiting)

    def company_until(self, max_delay_seconds: float, max_batch_size: int) -> float:
        """When the next batch must begin, however small it is, as of `time.monotonic`."""
        with self._lock:
            oldest = min((waiting.submitted for waiting in self._line), default=-math.inf)
            deadline = min((waiting.deadline for waiting in self._line), default=-math.inf)
        return min(oldest + max_delay_seconds, deadline - self._batch_time.predict(max_batch_size))

    def take(self, most: int) -> list[Waiting]:
        """Take what may run together, and drop what nobody waits for any more.

        The oldest request always goes; those that do not fit to it keep their places in the queue.
        The batch is closed where one more would make its tightest deadline be missed.

        Args:
            most: how many rows the batch may have.
        """
        with self._lock:
            return self._take(most)

    def take_more(self, batch: list[Waiting], most: int) -> Waiting | None:
        """Take the next one if it may join a batch; for any thread.

        What nobody waits for any more, or came too late, is left to `take`.

        Args:
            batch: to be joined.
            most: how many rows it may have.
        """
        with self._lock:
            if not self._line:
                return None
            waiting, now = self._line[0], time.monotonic()
            rows = sum(other.rows for other in batch)
            spare = min(other.deadline for other in batch) - now
            if (
                waiting.answer.done()
                or waiting.deadline <= now
                or waiting.row_shapes != batch[0].row_shapes
                or rows + waiting.rows > most
                or not self._batch_time.admits(rows, waiting.rows, spare)
            ):
                return None
            self.rows -= waiting.rows
            return self._line.popleft()

    def _take(self, most: int) -> list[Waiting]:
        now = time.monotonic()
        batch: list[Waiting] = []
        room = most
        tightest = math.inf
        passed_over: list[Waiting] = []
        while self._line and room > 0:
            waiting = self._line.popleft()
            if waiting.answer.done():  # its caller went away
                self.rows -= waiting.rows
            elif waiting.deadline <= now:
                self.rows -= waiting.rows
                waiting.answer.set_exception(
                    DeadlineExceededError("the deadline passed while the request was queued")
                )
            elif batch and not (waiting.rows <= room and waiting.row_shapes == batch[0].row_shapes):
                passed_over.append(waiting)
            elif batch and not self._batch_time.admits(most - room, waiting.rows, tightest - now):
                passed_over.append(waiting)
                break
            else:
                self.rows -= waiting.rows
                room -= waiting.rows
                tightest = min(tightest, waiting.deadline)
                batch.append(waiting)
        self._line.extendleft(reversed(passed_over))
        return batch
