"""What a model takes in memory, beside the estimate that `--memory-budget` counts with.

    python bench/memory.py FILE.onnx...

Each model is opened in a process of its own as the server opens it, what the optimiser made of it
being there already; it runs its smallest and its largest batch alone, then as many of the largest
as may go on at the same time, and is freed again. The bundled model is run there first: what the
libraries need themselves is not counted. Weights that are mapped twice are in memory, and counted,
once.
"""

import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil

from convlens.server.memory import give_back_memory
from convlens.server.plan import Machine, Plan, default_plan
from convlens.server.processors import processor_count
from convlens.server.providers import ModelSource, open_session
from convlens.server.session_memory import session_bytes
from convlens.server.settings import BUNDLED_MODELS, Settings

MIB = 2**20


def main() -> None:
    """Print a line for each file."""
    paths = [Path(name) for name in sys.argv[1:]]
    plan = default_plan("cpu", "fp32", processor_count(), Settings().max_batch_size)
    print(f"{'model':30} {'estimate':>10} {'measured':>10} {'left':>10}  MiB")
    cache = Path(__file__).parent / "results" / "cache"
    for path in paths:
        open_session(ModelSource.read(path), plan, Machine(cache))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            taken, left = process.submit(measure, path, plan, cache).result()
        estimate = session_bytes(path, plan)
        print(f"{path.stem:30} {estimate / MIB:10.0f} {taken / MIB:10.0f} {left / MIB:10.0f}")


def measure(path: Path, plan: Plan, cache: Path) -> tuple[int, int]:
    """The bytes that a model takes, and those that are left once it is freed."""
    _run(BUNDLED_MODELS / "lenet5.onnx", plan, cache)
    before = _resident_bytes()
    return _run(path, plan, cache) - before, _resident_bytes() - before


def _run(path: Path, plan: Plan, cache: Path) -> int:
    """Run a model's smallest and largest batches; returns the memory before it is freed."""
    rows = plan.max_batch_size
    session = open_session(ModelSource.read(path), plan, Machine(cache))
    (entry,) = session.get_inputs()
    sides = [int(side or 1) for side in entry.shape[1:]]
    largest = {entry.name: np.zeros((rows, *sides), np.float32)}
    session.run(None, {entry.name: largest[entry.name][:1]})
    session.run(None, largest)
    with ThreadPoolExecutor(plan.instances) as threads:
        runs = [threads.submit(session.run, None, largest) for _ in range(2 * plan.instances)]
    for run in runs:
        run.result()
    del runs
    resident = _resident_bytes()
    del session
    give_back_memory()
    return resident


def _resident_bytes() -> int:
    return psutil.Process().memory_full_info().pss


if __name__ == "__main__":
    main()
