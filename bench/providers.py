"""What each provider and precision gains over onnxruntime's CPU provider in fp32, in-process.

The ways of a model are open together and take turns, in one run on one machine; medians are
reported, and the ratios are what counts. Weights are random: speed does not depend on them.

    .venv/bin/python bench/providers.py [--models FOLDER] [--rounds N] [--int8 NAME...]
"""

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from convlens.export import PrecisionOptions, export_model
from convlens.server.errors import ModelLoadError
from convlens.server.model import Model, load_model
from convlens.server.peak import measure_peak
from convlens.server.plan import Machine, Plan
from convlens.server.processors import processor_count
from convlens.server.providers import PROVIDERS, ModelSource
from convlens.server.providers.cache import processor_name
from convlens.server.tuning import measure_run

MODELS = ("resnet50", "efficientnet_b0", "convnext_tiny", "alexnet")
BATCH_SIZES = (1, 8)
RESULTS = Path(__file__).parent / "results" / "providers.json"


def main() -> None:
    """Measure, print and write the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("build/bench-models"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--int8", nargs="*", default=MODELS, help="those to measure in int8 too")
    arguments = parser.parse_args()
    arguments.models.mkdir(parents=True, exist_ok=True)
    result = {
        "command": "python bench/providers.py",
        "machine": f"{processor_name()}, {processor_count()} of {os.cpu_count()} processors, "
        f"Python {platform.python_version()}",
        "peak_gflops": {
            f"{plan.provider} {plan.precision}": round(measure_peak(plan) / 1e9, 1)
            for plan in _plans()
            if plan.instances == 1
        },
        "models": {
            name: compare(name, arguments.models, arguments.rounds, int8=name in arguments.int8)
            for name in MODELS
        },
    }
    print(json.dumps(result, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def compare(name: str, folder: Path, rounds: int, *, int8: bool) -> dict[str, dict[str, float]]:
    """Images a second of each way, and the ratio to the CPU in fp32 in the same arrangement."""
    ways = dict(_open(name, folder, int8=int8))
    inputs = np.random.default_rng(0).standard_normal((8, 3, 224, 224)).astype(np.float32)
    rates: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds):
        for way, model in ways.items():
            for size in BATCH_SIZES:
                seconds = measure_run(model, inputs, size)
                rate = model.plan.instances * size / seconds
                rates.setdefault((way, size), []).append(rate)
        print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr)
    rows = {}
    for (way, size), own in rates.items():
        base = rates[f"cpu fp32 {way.split()[-1]}", size]
        ratios = [rate / reference for rate, reference in zip(own, base, strict=True)]
        rows[f"{way} batch {size}"] = {
            "images_per_second": round(statistics.median(own), 2),
            "ratio_to_cpu_fp32": round(statistics.median(ratios), 2),
        }
    return rows


def _open(name: str, folder: Path, *, int8: bool) -> Iterator[tuple[str, Model]]:
    files = {"": _export(name, folder, "fp32")}
    if int8:
        files["int8"] = _export(name, folder, "int8")
    for label, path in files.items():
        for plan in _plans():
            if label and plan.precision != "fp32":
                continue
            way = f"{plan.provider} {label or plan.precision} {plan.instances}x{plan.threads}"
            try:
                yield way, load_model(name, "1", ModelSource.read(path), plan, Machine())
            except ModelLoadError as error:
                print(f"{name}: {way}: {error}", file=sys.stderr)


def _export(name: str, folder: Path, precision: str) -> Path:
    path = folder / (f"{name}.onnx" if precision == "fp32" else f"{name}_{precision}.onnx")
    if not path.exists():
        print(f"{name}: exporting in {precision}", file=sys.stderr)
        options = PrecisionOptions(precision="int8", min_agreement=0.0)
        reduced = options if precision == "int8" else None
        export_model(name, path, weights="random", precision=reduced)
    return path


def _plans() -> Iterator[Plan]:
    processors = processor_count()
    for name in ("cpu", "openvino"):
        provider = PROVIDERS[name]
        for precision in provider.precisions if provider.why_not() is None else ():
            for instances in dict.fromkeys((1, processors)):
                yield Plan(name, precision, processors // instances, instances, max(BATCH_SIZES))


if __name__ == "__main__":
    main()
