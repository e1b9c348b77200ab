"""How fast a way to run a model is: its runs alone, and pictures from their bytes on."""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from convlens.server.agreement import read_picture
from convlens.server.decoder import may_be_small
from convlens.server.model import Model
from convlens.server.tensor import Array

ENOUGH_SECONDS = 0.1  # shorter measurements are repeated until they add up to this


class RunTime(NamedTuple):
    """What one run of a batch takes.

    Attributes:
        seconds: of the clock.
        processor_seconds: of all processors together.
    """

    seconds: float
    processor_seconds: float


def measure_run(model: Model, inputs: Array, size: int) -> RunTime:
    """Time runs of a batch, while as many of them go on as the plan has instances."""
    batch = np.resize(inputs, (size, *inputs.shape[1:]))
    instances = model.plan.instances
    times = _times(_together(instances, 1, lambda: model.run((batch,))))  # warms up
    start = time.process_time()
    seconds = _together(instances, times, lambda: model.run((batch,)))
    return RunTime(seconds, (time.process_time() - start) / (times * instances))


def measure_serving(
    model: Model,
    pictures: Sequence[bytes],
    size: int,
    processors: int,
    *,
    approximate: bool = False,
) -> float:
    """Seconds a picture, where it is decoded and then run in batches of a size.

    As in the server each processor decodes what it runs; where the plan has fewer instances, other
    pictures are decoded meanwhile. Small ones one thread does, as the server's event loop.

    Args:
        model: that takes pictures, and has just been run.
        pictures: encoded; taken in turns.
        size: of the batches.
        processors: that all of it is spread over.
        approximate: how the pictures are decoded, see `to_pixels`.
    """
    preprocessing = model.card.preprocessing
    assert preprocessing is not None
    small = all(may_be_small(picture, preprocessing) for picture in pictures)
    threads = 1 if small else max(model.plan.instances, processors)
    may_run = threading.Semaphore(model.plan.instances)
    endless = itertools.cycle(pictures)

    def serve() -> None:
        encoded = itertools.islice(endless, size)
        batch = np.stack([read_picture(model, it, approximate=approximate) for it in encoded])
        with may_run:
            model.run((batch,))

    seconds = _together(threads, 1, serve)
    return _together(threads, _times(seconds), serve) / (threads * size)


def _times(seconds: float) -> int:
    return max(1, round(ENOUGH_SECONDS / seconds))


def _together(count: int, times: int, work: Callable[[], object]) -> float:
    """Do a work again and again, in so many threads; returns the seconds that one round takes."""

    def repeat() -> None:
        for _ in range(times):
            work()

    with ThreadPoolExecutor(count) as threads:
        start = time.perf_counter()
        for done in [threads.submit(repeat) for _ in range(count)]:
            done.result()
        return (time.perf_counter() - start) / times
