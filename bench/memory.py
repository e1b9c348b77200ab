"""What a model takes in memory, beside the estimate that `--memory-budget` counts with.

    python bench/memory.py FILE.onnx...

Each model is opened in a process of its own, runs its smallest and its largest batch, and is freed
again. The bundled model is run there first: what the libraries need themselves is not counted.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
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
    paths = [Path(name) for name in sys.argv[1:]]
    rows = Settings().max_batch_size
    print(f"{'model':30} {'estimate':>10} {'measured':>10} {'left':>10}  MiB")
    for path in paths:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            taken, left = process.submit(measure, path, rows).result()
        estimate = session_bytes(path, rows)
        print(f"{path.stem:30} {estimate / MIB:10.0f} {taken / MIB:10.0f} {left / MIB:10.0f}")


def measure(path: Path, rows: int) -> tuple[int, int]:
    """The bytes that a model takes, and those that are left once it is freed."""
    _run(BUNDLED_MODELS / "lenet5.onnx", rows)
    before = _resident_bytes()
    return _run(path, rows) - before, _resident_bytes() - before


def _run(path: Path, rows: int) -> int:
    """Run a model's smallest and largest batch; returns the memory before it is freed."""
    session = open_session(ModelSource.read(path), Plan(threads=2, max_batch_size=rows), Machine())
    (entry,) = session.get_inputs()
    for batch in (1, rows, rows):
        session.run(None, {entry.name: np.zeros((batch, *entry.shape[1:]), np.float32)})
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
