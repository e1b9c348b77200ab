"""How runs share the processors: one that is spread over all, or one on each; in-process.

    python bench/arrangements.py [--models NAME...] [--rounds N] [--seconds S]

`wide`: one run at a time, all threads. `shared`: a run a processor, all of them sharing a
session's threads. `narrow`: a run a processor, one thread each. `elastic`: the server's default,
which chooses among the widths by what is under way; `lone` is one run of it at a time. They take
turns; medians of the rounds. `ms` is processor time for a picture: other programs hardly touch it,
and it leaves out what threads wait for each other. `together` runs all models at once, and adds up
what share of its rate alone each one has: 1 is what taking turns would give.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convlens.export import export_model
from convlens.server.plan import Machine, Plan, default_plan
from convlens.server.processors import processor_count
from convlens.server.providers import ModelSource, Session, open_session
from convlens.server.providers.cache import processor_name
from convlens.server.settings import BUNDLED_MODELS

MODELS = ("lenet5", "efficientnet_b0", "alexnet", "resnet50", "convnext_tiny")
BATCH_SIZES = (1, 4, 8)
RESULTS = Path(__file__).parent / "results"
PROCESSORS = processor_count()
# How a plan is opened, and how many runs go on at the same time.
WAYS: Mapping[str, tuple[Plan, int]] = {
    "wide": (Plan(threads=PROCESSORS), 1),
    "shared": (Plan(threads=PROCESSORS, max_batch_size=8), PROCESSORS),
    "narrow": (Plan(threads=1, instances=PROCESSORS), PROCESSORS),
    "elastic": (default_plan("cpu", "fp32", PROCESSORS, max(BATCH_SIZES)), PROCESSORS),
    "lone": (default_plan("cpu", "fp32", PROCESSORS, max(BATCH_SIZES)), 1),
}


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    machine = Machine(RESULTS / "cache")
    opened = {name: _open(name, machine) for name in arguments.models}
    result: dict[str, Any] = {
        "command": "python bench/arrangements.py",
        "machine": f"{processor_name()}, {PROCESSORS} processors",
        "rows": [],
    }
    for name, sessions in opened.items():
        for size in BATCH_SIZES:
            row = {"model": name, "batch": size} | _compare(sessions, size, arguments)
            result["rows"].append(row)
            print(json.dumps(row), flush=True)
    result["together"] = {
        way: _together(way, opened, arguments) for way in ("wide", "elastic") if len(opened) > 1
    }
    print(json.dumps(result["together"]))
    (RESULTS / "arrangements.json").write_text(json.dumps(result, indent=2) + "\n")


def _open(name: str, machine: Machine) -> dict[str, Session]:
    path = RESULTS / "models" / name / f"{name}.onnx"
    if name == "lenet5":
        path = BUNDLED_MODELS / "lenet5.onnx"
    elif not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        export_model(name, path, weights="random")
    source = ModelSource.read(path)
    plans = dict.fromkeys(plan for plan, _ in WAYS.values())
    sessions = {plan: open_session(source, plan, machine) for plan in plans}
    return {way: sessions[plan] for way, (plan, _) in WAYS.items()}


def _compare(
    sessions: Mapping[str, Session], size: int, arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Each way's pictures a second, processor time, and rate beside `wide`."""
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for session in sessions.values():
        _run(session, size, 1, 0.0)
    for _ in range(arguments.rounds):
        for way, (_, runs) in WAYS.items():
            found[way].append(_run(sessions[way], size, runs, arguments.seconds))
    return {
        way: {
            "per_second": round(statistics.median(rate for rate, _ in rounds), 1),
            "ms": round(1e3 * statistics.median(seconds for _, seconds in rounds), 3),
            "beside_wide": round(
                statistics.median(
                    rate / wide for (rate, _), (wide, _) in zip(rounds, found["wide"], strict=True)
                ),
                2,
            ),
        }
        for way, rounds in found.items()
    }


def _run(session: Session, size: int, runs: int, seconds: float) -> tuple[float, float]:
    """Pictures a second, and processor seconds for one."""
    spent = -time.process_time()
    (load,) = _load({"": session}, size, runs, seconds).values()
    return load.per_second, (spent + time.process_time()) / load.count


@dataclass
class _Load:
    count: int = 0
    per_second: float = 0.0


def _load(
    sessions: Mapping[str, Session], size: int, runs: int, seconds: float
) -> dict[str, _Load]:
    """What each model does, each with so many runs at a time."""
    loads = {name: _Load() for name in sessions}
    lock = threading.Lock()

    def work(name: str) -> None:
        (entry,) = sessions[name].get_inputs()
        sides = [int(side or 1) for side in entry.shape[1:]]
        feed = {entry.name: np.zeros((size, *sides), np.float32)}
        start = time.perf_counter()
        count = 0
        while count == 0 or time.perf_counter() < start + seconds:
            sessions[name].run(None, feed)
            count += size
        with lock:
            loads[name].count += count
            loads[name].per_second += count / (time.perf_counter() - start)

    threads = [
        threading.Thread(target=work, args=(name,)) for name in sessions for _ in range(runs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return loads


def _together(
    way: str, opened: Mapping[str, Mapping[str, Session]], arguments: argparse.Namespace
) -> float:
    """The models' rates at the same time, each beside its rate alone, added up."""
    sessions = {name: ways[way] for name, ways in opened.items()}
    runs, sums = WAYS[way][1], []
    for _ in range(arguments.rounds):
        alone = {
            name: _load({name: session}, 1, runs, arguments.seconds)[name].per_second
            for name, session in sessions.items()
        }
        loads = _load(sessions, 1, runs, len(sessions) * arguments.seconds)
        sums.append(sum(load.per_second / alone[name] for name, load in loads.items()))
    return round(statistics.median(sums), 2)


if __name__ == "__main__":
    main()
