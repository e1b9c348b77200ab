"""One run of a batch: inputs made, joined, run, and the outputs split again."""

import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from convlens.server.short_runs import Shapes
from convlens.server.tensor import Array
from convlens.server.waiting_line import Inputs, Waiting


class Ran(NamedTuple):
    """What became of a batch.

    Attributes:
        outcomes: of each request its outputs, or why its inputs could not be made.
        rows: that ran.
        row_shapes: of each input.
        start: of the run, as of `time.monotonic`.
        seconds: that the run took.
        making_seconds: that each request's inputs took, before the run.
    """

    outcomes: list[tuple[Array, ...] | Exception]
    rows: int
    row_shapes: Shapes
    start: float
    seconds: float
    making_seconds: list[float]


class _Made(NamedTuple):
    inputs: Inputs | Exception
    seconds: float


def run_batch(
    run: Callable[[Inputs], tuple[Array, ...]],
    batch: list[Waiting],
    take_more: Callable[[], Waiting | None] = lambda: None,
) -> Ran:
    """Run requests together, in the calling thread.

    Args:
        run: the inputs of a graph -> its outputs.
        batch: requests with the same `row_shapes`; grows by what arrives while inputs are made.
        take_more: one that arrived meanwhile.

    Raises:
        Exception: whatever the run raises.
    """
    made = _make_inputs(batch, take_more)
    ready = [
        (waiting.rows, inputs)
        for waiting, (inputs, _) in zip(batch, made, strict=True)
        if not isinstance(inputs, Exception)
    ]
    start = time.monotonic()
    outputs = iter(_run_joined(run, ready))
    seconds = time.monotonic() - start
    return Ran(
        [each.inputs if isinstance(each.inputs, Exception) else next(outputs) for each in made],
        sum(rows for rows, _ in ready),
        batch[0].row_shapes,
        start,
        seconds,
        [each.seconds for each in made],
    )


def _make_inputs(batch: list[Waiting], take_more: Callable[[], Waiting | None]) -> list[_Made]:
    takes_time = any(callable(waiting.inputs) for waiting in batch)
    made = []
    for waiting in batch:  # which grows
        made.append(_make(waiting))
        if takes_time and waiting is batch[-1] and (more := take_more()):
            batch.append(more)
    return made


def _make(waiting: Waiting) -> _Made:
    if not callable(waiting.inputs):
        return _Made(waiting.inputs, 0.0)
    start = time.monotonic()
    inputs: Inputs | Exception
    try:
        inputs = waiting.inputs()
    except Exception as error:  # noqa: BLE001 - it is the request's own
        inputs = error
    return _Made(inputs, time.monotonic() - start)


def _run_joined(
    run: Callable[[Inputs], tuple[Array, ...]], ready: list[tuple[int, Inputs]]
) -> list[tuple[Array, ...]]:
    """Run them as one; returns the outputs of each."""
    if not ready:
        return []
    rows, requests = zip(*ready, strict=True)
    if len(requests) == 1:
        return [run(requests[0])]
    outputs = run(tuple(np.concatenate(column) for column in zip(*requests, strict=True)))
    return _split(outputs, rows)


def _split(outputs: tuple[Array, ...], rows: tuple[int, ...]) -> list[tuple[Array, ...]]:
    """Give each request its own rows of every output."""
    for output in outputs:
        if output.shape[:1] != (sum(rows),):
            raise ValueError(f"an output of a batch of {sum(rows)} has shape {output.shape}")
    ends = itertools.accumulate(rows)
    return [
        tuple(output[end - count : end] for output in outputs)
        for count, end in zip(rows, ends, strict=True)
    ]
