"""How long a server takes until it is ready, and how much memory it has then.

    python bench/start.py FILE.onnx [--rounds N]

Each round starts `convlens serve` on a folder with that file alone, once with an empty cache and
once with what the first start left there. `seconds` is from the start of the process until it
answers "serving", `cpu` the processor time it took, `MB` the memory resident then, shared pages
included; `bound` is twice the weights plus 150 MB.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from server_process import serve

from convlens.analysis import analyze

MB = 1e6


@dataclass(frozen=True)
class Start:
    """One start: seconds by the clock, seconds of the processors, and bytes that are resident."""

    seconds: float
    cpu_seconds: float
    resident_bytes: int
    maps_torch: bool


def main() -> None:
    """Print a line for each way to start."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    starts = list(rounds(arguments.file.resolve(), arguments.rounds))
    weights = analyze(arguments.file).totals.weight_bytes
    print(f"{'cache':8} {'seconds':>8} {'cpu':>6} {'MB':>6}   bound")
    for number, name in enumerate(("empty", "filled")):
        chosen = [start[number] for start in starts]
        seconds = statistics.median(start.seconds for start in chosen)
        cpu = statistics.median(start.cpu_seconds for start in chosen)
        resident = statistics.median(start.resident_bytes for start in chosen) / MB
        torch = ", torch is loaded" if any(start.maps_torch for start in chosen) else ""
        bound = 2 * weights / MB + 150
        print(f"{name:8} {seconds:8.2f} {cpu:6.2f} {resident:6.0f}   {bound:.0f} MB{torch}")


def rounds(file: Path, number: int) -> Iterator[tuple[Start, Start]]:
    """Start without and with a cache, in turns."""
    for _ in range(number):
        with tempfile.TemporaryDirectory() as folder:
            models, cache = Path(folder) / "models", Path(folder) / "cache"
            models.mkdir()
            (models / file.name).symlink_to(file)
            yield start(models, cache), start(models, cache)


def start(models: Path, cache: Path) -> Start:
    """Start a server, look at it once it is ready, and end it."""
    begin = time.perf_counter()
    with serve("--provider", "cpu", f"--models={models}", f"--cache-dir={cache}") as server:
        seconds = time.perf_counter() - begin
        maps_torch = "libtorch" in Path(f"/proc/{server.process.pid}/maps").read_text()
        return Start(seconds, server.processor_seconds(), server.resident_bytes(), maps_torch)


if __name__ == "__main__":
    main()
