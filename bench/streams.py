"""What a compiled model for each concurrent run saves, beside OpenVINO's streams of one for all.

A JPEG is decoded and run in batches of four, in as many threads as there are processors, the two
in turns. Medians of the rounds, and the share of the time in which processors were idle; and the
memory that each takes once it has run.

    python bench/streams.py FILE.onnx... [--precision bf16]
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from serve import CACHE, Arrangement, in_process

from convlens.server.agreement import seeded_trial
from convlens.server.model import Model, load_model
from convlens.server.plan import Machine, Plan
from convlens.server.processors import processor_count
from convlens.server.providers import ModelSource, openvino

ROUNDS, SECONDS, BATCH = 9, 2.0, 4


class Turn(NamedTuple):
    """What was measured in one turn: pictures a second, and the share of processors' idle time."""

    rate: float
    idle: float


def main() -> None:
    """Print a line for each file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.onnx")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    options = parser.parse_args()
    plan = Plan("openvino", options.precision, instances=processor_count())
    print(f"{'model':20} {'streams':>24} {'copies':>24} {'ratio':>6}")
    for path in options.files:
        how = Arrangement(plan, plan.instances, BATCH, ModelSource.read(path))
        ways = [_opened(how, copied_bytes) for copied_bytes in (0, 2**40)]
        rounds = [[_turn(model, how, SECONDS) for model, _ in ways] for _ in range(ROUNDS)]
        cells = []
        for turns, (_, mebibytes) in zip(zip(*rounds, strict=True), ways, strict=True):
            rate, idle = (statistics.median(each) for each in zip(*turns, strict=True))
            cells.append(f"{rate:5.0f}/s {idle:4.1%} {mebibytes:5} MiB")
        ratio = statistics.median(copies.rate / streams.rate for streams, copies in rounds)
        print(f"{path.stem:20} {cells[0]:>24} {cells[1]:>24} {ratio:6.3f}", flush=True)


def _opened(how: Arrangement, copied_bytes: int) -> tuple[Model, int]:
    """A model, and the MiB of anonymous memory that it takes."""
    openvino._MAX_COPIED_BYTES = copied_bytes
    before = _anonymous_mebibytes()
    model = load_model(how.source.path.stem, "1", how.source, how.plan, Machine(CACHE))
    _turn(model, how, 0.5)
    return model, _anonymous_mebibytes() - before


def _turn(model: Model, how: Arrangement, seconds: float) -> Turn:
    (picture,) = seeded_trial(model).pictures
    start, busy = time.perf_counter(), time.process_time()
    rate = in_process(model, how, picture, seconds)
    busy, took = time.process_time() - busy, time.perf_counter() - start
    return Turn(rate, 1 - busy / (took * how.workers))


def _anonymous_mebibytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    (kibibytes,) = (int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
    return kibibytes >> 10


if __name__ == "__main__":
    main()
