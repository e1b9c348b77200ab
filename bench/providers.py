"""What each provider and precision gains over onnxruntime's CPU provider in fp32, in-process.

Each way runs on one thread, and processor time is counted: what other programs take hardly changes
it. The ways of a model are open together and take turns; the fastest round counts. `of_peak` is
2 x MACs a second beside the rate of one large product of matrices in that precision, measured
likewise: the rest is what a better way could still gain. Weights are random: speed does not depend
on them.

    python bench/providers.py [--models NAME...] [--rounds N] [--int8 NAME...]
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convlens.analysis import analyze
from convlens.export import PrecisionOptions, export_model
from convlens.server.errors import ModelLoadError
from convlens.server.model import Model, load_model
from convlens.server.peak import measure_peak
from convlens.server.plan import PROCESSOR_PROVIDERS, Machine, Plan
from convlens.server.processors import processor_count
from convlens.server.providers import PROVIDERS, ModelSource
from convlens.server.providers.cache import processor_name

MODELS = ("resnet50", "efficientnet_b0", "convnext_tiny", "alexnet")
BATCH_SIZES = (1, 8)
FOLDER = Path(__file__).parent / "results"


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--int8", nargs="*", default=(), help="those to measure in int8 too")
    arguments = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    peaks = _peaks()
    result: dict[str, Any] = {
        "command": "python bench/providers.py",
        "machine": f"{processor_name()}, {processor_count()} of {os.cpu_count()} processors, "
        f"Python {platform.python_version()}",
        "peak_gflops_of_one": {name: round(peak / 1e9, 1) for name, peak in peaks.items()},
        "models": {},
    }
    for name in arguments.models:
        rows = compare(name, arguments.rounds, peaks, int8=name in arguments.int8)
        result["models"][name] = rows
        print(name, json.dumps(rows, indent=2), flush=True)
        (FOLDER / "providers.json").write_text(json.dumps(result, indent=2) + "\n")


def compare(
    name: str, rounds: int, peaks: Mapping[str, float], *, int8: bool
) -> dict[str, dict[str, float]]:
    """Processor time of a picture, the ratio to the CPU in fp32, and the share of the peak."""
    ways = dict(_open(name, int8=int8))
    macs = analyze(_export(name, "fp32"), batch=1).totals.macs or 0
    seconds: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds):
        for way, model in ways.items():
            for size in BATCH_SIZES:
                seconds.setdefault((way, size), []).append(_measure(model, size))
        print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr)
    best = {key: min(found) for key, found in seconds.items()}
    return {
        f"{way} batch {size}": {
            "ms": round(1e3 * one, 2),
            "ratio_to_cpu_fp32": round(best["cpu fp32", size] / one, 2),
            "of_peak": round(2 * macs / one / peaks[way.split()[1]], 2),
        }
        for (way, size), one in best.items()
    }


def _measure(model: Model, size: int) -> float:
    """Processor seconds of one picture; the first run is not counted."""
    batch = np.random.default_rng(0).standard_normal((size, 3, 224, 224)).astype(np.float32)
    model.run((batch,))
    start = time.process_time()
    model.run((batch,))
    return (time.process_time() - start) / size


def _peaks() -> dict[str, float]:
    """Operations a second of one processor, by precision, by the best provider."""
    peaks: dict[str, float] = {}
    for plan in _plans():
        for int8 in (False, True) if plan.precision == "fp32" else (False,):
            name = "int8" if int8 else plan.precision
            peaks[name] = max(peaks.get(name, 0.0), measure_peak(plan, int8=int8))
    return peaks


def _open(name: str, *, int8: bool) -> Iterator[tuple[str, Model]]:
    for precision in ("fp32", "int8") if int8 else ("fp32",):
        source = ModelSource.read(_export(name, precision))
        for plan in _plans():
            if precision == "int8" and plan.precision != "fp32":
                continue
            way = f"{plan.provider} {'int8' if precision == 'int8' else plan.precision}"
            try:
                yield way, load_model(name, "1", source, plan, Machine(FOLDER / "cache"))
            except ModelLoadError as error:
                print(f"{name}: {way}: {error}", file=sys.stderr)


def _export(name: str, precision: str) -> Path:
    stem = name if precision == "fp32" else f"{name}_{precision}"
    path = FOLDER / "models" / stem / f"{stem}.onnx"
    if not path.exists():
        print(f"{name}: exporting in {precision}", file=sys.stderr)
        path.parent.mkdir(parents=True, exist_ok=True)
        options = PrecisionOptions(precision="int8", min_agreement=0.0)
        reduced = options if precision == "int8" else None
        export_model(name, path, weights="random", precision=reduced)
    return path


def _plans() -> Iterator[Plan]:
    for name in PROCESSOR_PROVIDERS:
        provider = PROVIDERS[name]
        for precision in provider.precisions if provider.why_not() is None else ():
            yield Plan(name, precision, max_batch_size=max(BATCH_SIZES))


if __name__ == "__main__":
    main()
