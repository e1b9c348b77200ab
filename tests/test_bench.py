"""The benchmarks keep up with what they measure."""

import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parent.parent / "bench"


def test_every_benchmark_finds_what_it_imports() -> None:
    names = ", ".join(sorted(path.stem for path in BENCH.glob("*.py")))
    command = (sys.executable, "-c", f"import {names}")
    done = subprocess.run(command, cwd=BENCH, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
