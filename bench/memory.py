"""What a model takes in memory, beside the estimate that `--memory-budget` counts with.

    python bench/memory.py [--instances N] [--max-batch-size N] FILE.onnx...

Each model is opened in a process of its own, runs its smallest batch and then as many of its
largest ones at a time as there are instances, and is freed again. The bundled model is run there
first: what the libraries need themselves is not counted.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from convlens.server.memory import give_back_memory, session_bytes
from convlens.server.plan import Machine, Plan
from convlens.server.providers import ModelSource, open_session
from convlens.server.settings import BUNDLED_MODELS, Settings

MIB = 2**20


def main() -> None:
    """Print a line for each file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.onnx")
    parser.add_argument("--instances", type=int, default=1)
    parser.add_argument("--max-batch-size", type=int, default=Settings().max_batch_size)
    given = parser.parse_args()
    plan = Plan(threads=2, instances=given.instances, max_batch_size=given.max_batch_size)
    print(f"{'model':30} {'estimate':>10} {'measured':>10} {'left':>10}  MiB")
    for path in given.files:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            taken, left = process.submit(measure, path, plan).result()
        estimate = session_bytes(path, plan)
        print(f"{path.stem:30} {estimate / MIB:10.0f} {taken / MIB:10.0f} {left / MIB:10.0f}")


def measure(path: Path, plan: Plan) -> tuple[int, int]:
    """The bytes that a model takes, and those that are left once it is freed."""
    _run(BUNDLED_MODELS / "lenet5.onnx", plan)
    before = _resident_bytes()
    return _run(path, plan) - before, _resident_bytes() - before


def _run(path: Path, plan: Plan) -> int:
    """Run a model as its plan allows; returns the memory before it is freed."""
    session = open_session(ModelSource.read(path), plan, Machine())
    (entry,) = session.get_inputs()
    largest = {entry.name: np.zeros((plan.max_batch_size, *entry.shape[1:]), np.float32)}
    session.run(None, {entry.name: largest[entry.name][:1]})
    with ThreadPoolExecutor(plan.instances) as threads:
        runs = [threads.submit(session.run, None, largest) for _ in range(4 * plan.instances)]
    for run in runs:
        run.result()
    del runs
    resident = _resident_bytes()
    del session
    give_back_memory()
    return resident


def _resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmRSS in /proc/self/status")


if __name__ == "__main__":
    main()
