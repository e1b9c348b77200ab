"""What huge pages save: two processes in turns, one of which asks for them.

Each opens the file as `convlens serve` would run it (tuned, where `convlens tune` was run), and
runs batches of the most that it takes. Processor time of a picture, medians of the rounds; and how
much of the process lies in huge pages.

    python bench/huge_pages.py FILE.onnx...
"""

import os
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from convlens.cli.huge_pages import TUNABLE
from convlens.server.model import Model, load_model
from convlens.server.plan import Machine
from convlens.server.processors import processor_count
from convlens.server.providers import ModelSource
from convlens.server.settings import Settings
from convlens.server.tensor import DTYPES
from convlens.server.tuned_file import make_planner

ROUNDS, SECONDS = 15, 1.0
CACHE = Path(__file__).parent / "results" / "cache"


def main() -> None:
    """Print a line for each file."""
    print(f"{'model':20} {'batch':>5} {'4 KiB':>8} {'2 MiB':>8} {'ratio':>6} {'huge':>8}")
    for path in map(Path, sys.argv[1:]):
        with ExitStack() as stack:
            processes = [stack.enter_context(_process(asks)) for asks in (False, True)]
            found: list[list[float]] = []
            for number in range(ROUNDS + 1):
                turn = [process.submit(measure, path).result() for process in processes]
                if number > 0:  # the first round opens the model
                    found.append([milliseconds for milliseconds, _, _ in turn])
            _, batch, huge = turn[1]
        small, large = (statistics.median(times) for times in zip(*found, strict=True))
        ratio = statistics.median(times[1] / times[0] for times in found)
        print(
            f"{path.stem:20} {batch:5} {small:5.2f} ms {large:5.2f} ms {ratio:6.3f} {huge:4} MiB",
            flush=True,
        )


@contextmanager
def _process(asks: bool) -> Iterator[ProcessPoolExecutor]:
    os.environ["GLIBC_TUNABLES"] = f"{TUNABLE}={int(asks)}"  # read as the process begins
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        process.submit(os.getpid).result()
        yield process


def measure(path: Path) -> tuple[float, int, int]:
    """Milliseconds of processor time a picture, the batch size, and MiB in huge pages."""
    model = _open(path)
    batch, (taken,) = model.plan.max_batch_size, model.signature.inputs
    sides = [side or 1 for side in taken.shape[1:]]
    inputs = (np.zeros((batch, *sides), DTYPES[taken.datatype]),)
    model.run(inputs)
    pictures, spent, start = 0, -time.process_time(), time.perf_counter()
    while time.perf_counter() < start + SECONDS:
        model.run(inputs)
        pictures += batch
    spent += time.process_time()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    (kibibytes,) = (int(line.split()[1]) for line in lines if line.startswith("AnonHugePages"))
    return 1e3 * spent / pictures, batch, kibibytes >> 10


@cache
def _open(path: Path) -> Model:
    most = Settings().max_batch_size
    planner = make_planner("cpu", "fp32", "throughput", processor_count(), most, any_provider=True)
    chosen = planner.choose(ModelSource.read(path))
    return load_model(path.stem, "1", chosen.source, chosen.plan, Machine(CACHE))


if __name__ == "__main__":
    main()
