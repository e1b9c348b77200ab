"""What a compiled model for each concurrent run saves, beside OpenVINO's streams of one for all.

A photograph is decoded and run in batches of four, in as many threads as there are processors, the
two in turns. Medians of the rounds; and the memory that each takes once it has run.

    python bench/streams.py FILE.onnx... [--precision bf16]
"""

import argparse
import statistics
from pathlib import Path

from convlens.server.agreement import seeded_trial
from convlens.server.model import Model, load_model
from convlens.server.plan import Machine, Plan
from convlens.server.processors import processor_count
from convlens.server.providers import ModelSource, openvino
from convlens.server.speed import measure_serving

ROUNDS, BATCH = 40, 4
CACHE = Path(__file__).parent / "results" / "cache"


def main() -> None:
    """Print a line for each file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.onnx")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    options = parser.parse_args()
    processors = processor_count()
    plan = Plan("openvino", options.precision, instances=processors)
    print(f"{'model':20} {'streams':>18} {'copies':>18} {'ratio':>6}")
    for path in options.files:
        ways = [_opened(path, plan, copied_bytes) for copied_bytes in (0, 2**40)]
        pictures = seeded_trial(ways[0][0]).pictures
        rounds = [
            [1 / measure_serving(model, pictures, BATCH, processors) for model, _ in ways]
            for _ in range(ROUNDS)
        ]
        rates = [statistics.median(each) for each in zip(*rounds, strict=True)]
        cells = [
            f"{rate:6.0f}/s {mebibytes:5} MiB"
            for rate, (_, mebibytes) in zip(rates, ways, strict=True)
        ]
        ratio = statistics.median(copies / streams for streams, copies in rounds)
        print(f"{path.stem:20} {cells[0]:>18} {cells[1]:>18} {ratio:6.3f}", flush=True)


def _opened(path: Path, plan: Plan, copied_bytes: int) -> tuple[Model, int]:
    """A model, and the MiB of anonymous memory that it takes."""
    openvino._MAX_COPIED_BYTES = copied_bytes
    before = _anonymous_mebibytes()
    model = load_model(path.stem, "1", ModelSource.read(path), plan, Machine(CACHE))
    measure_serving(model, seeded_trial(model).pictures, BATCH, processor_count())
    return model, _anonymous_mebibytes() - before


def _anonymous_mebibytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    (kibibytes,) = (int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
    return kibibytes >> 10


if __name__ == "__main__":
    main()
