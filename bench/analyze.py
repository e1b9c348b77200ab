"""What an analysis costs: time and memory beside onnx-tool's, on the same file, in one run.

Rounds alternate between the two; medians are reported. Twice the work is timed: a whole process,
as a user starts it, and in-process with everything imported and warm. Beside the time on the clock
stands the processor's, which a busy machine disturbs less. onnx-tool lives in an environment of its
own, which is made if it is missing.

    make bench
    .venv/bin/python bench/analyze.py --families FOLDER

The second times every torchvision model of the six families, warm and in-process, as
`convlens export` writes their graphs, less the weights. They are exported into the folder, once:
half an hour.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROUNDS = 3
ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
BUNDLED_MODELS = ROOT / "server" / "bundled" / "models"
MACHINE = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
# Both start from compiled bytecode, as installed packages do.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
NEIGHBOUR = "onnx-tool==1.0.1"
NEIGHBOUR_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
TORCHVISION = ("alexnet", "vgg16", "resnet50", "efficientnet_b0", "convnext_tiny")

Measured = dict[str, float]

EXPORT = """
import sys, onnx, torch, torchvision
from convlens.export.to_onnx import to_onnx
for name in sys.argv[2:]:
    torch.manual_seed(0)
    network = getattr(torchvision.models, name)(weights=None)
    onnx.save_model(to_onnx(network, (3, 224, 224)).model, f"{sys.argv[1]}/{name}.onnx")
"""
EXPORT_FAMILIES = """
import pathlib, sys, onnx, torch, torchvision
from onnx.external_data_helper import set_external_data
from convlens.export.to_onnx import to_onnx
from tests.analysis.weightless import published_models
for name in published_models():
    path = pathlib.Path(sys.argv[1], f"{name}.onnx")
    if path.exists():
        continue
    print(name, flush=True)
    model = to_onnx(torchvision.models.get_model(name, weights=None), (3, 224, 224)).model
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > 1024:
            set_external_data(tensor, "missing.data")
            tensor.ClearField("raw_data")
    onnx.save_model(model, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)
"""

# Both workers print the seconds of each repetition. The first one warms up and is not counted.
OURS = """
import json, sys, time
from convlens.analysis import analyze
seconds, cpu_seconds = [], []
for _ in range(int(sys.argv[2]) + 1):
    start, cpu_start = time.perf_counter(), time.process_time()
    analyze(sys.argv[1])
    seconds.append(time.perf_counter() - start)
    cpu_seconds.append(time.process_time() - cpu_start)
print(json.dumps({"seconds": seconds[1:], "cpu_seconds": cpu_seconds[1:]}))
"""
THEIRS = """
import contextlib, io, json, sys, time
import numpy, onnx_tool
picture = {"input": numpy.zeros((1, 3, 224, 224), numpy.float32)}
seconds, cpu_seconds = [], []
with contextlib.redirect_stdout(io.StringIO()):
    for _ in range(int(sys.argv[2]) + 1):
        start, cpu_start = time.perf_counter(), time.process_time()
        onnx_tool.model_profile(sys.argv[1], picture)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
print(json.dumps({"seconds": seconds[1:], "cpu_seconds": cpu_seconds[1:]}))
"""


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description="What an analysis costs.")
    parser.add_argument("--families", metavar="FOLDER", type=Path, help="time every model warm")
    folder = parser.parse_args().families
    if folder is None:
        compare_with_neighbour()
    else:
        time_families(folder)


def time_families(folder: Path) -> None:
    """Export what the folder lacks, time every model in it, print a table and write it."""
    folder.mkdir(parents=True, exist_ok=True)
    print("exporting without weights", file=sys.stderr)
    subprocess.run([sys.executable, "-c", EXPORT_FAMILIES, str(folder)], check=True, cwd=ROOT)
    rows = {}
    print("model, milliseconds on the clock, milliseconds of the processor")
    for path in sorted(folder.glob("*.onnx")):
        measured = in_process(sys.executable, OURS, path)
        wall, cpu = (round(1e3 * statistics.median(values), 1) for values in measured.values())
        rows[path.stem] = {"ms": wall, "cpu_ms": cpu}
        print(f"{path.stem:24}{wall:8.1f}{cpu:8.1f}", flush=True)
    _write("analyze_families.json", {"machine": MACHINE, "in_process": rows})


def compare_with_neighbour() -> None:
    """Measure, print and write the ratios."""
    _make_neighbour()
    with tempfile.TemporaryDirectory() as folder:
        print("exporting with random weights", file=sys.stderr)
        subprocess.run([sys.executable, "-c", EXPORT, folder, *TORCHVISION], check=True)
        models = {name: Path(folder) / f"{name}.onnx" for name in TORCHVISION}
        models["lenet5"] = BUNDLED_MODELS / "lenet5.onnx"
        result = {
            "command": "make bench",
            "machine": MACHINE,
            "vgg16": beside_neighbour(models["vgg16"]),
            "in_process_of_each_family": {
                name: {
                    measure.replace("seconds", "ms"): round(1e3 * statistics.median(values), 1)
                    for measure, values in in_process(sys.executable, OURS, path).items()
                }
                for name, path in sorted(models.items())
            },
            "help": _medians([whole_process([_script("analyze"), "--help"]) for _ in range(9)]),
        }
    print(json.dumps(result, indent=2))
    _write("analyze.json", result)


def _write(name: str, result: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(json.dumps(result, indent=2) + "\n")


def beside_neighbour(model: Path) -> dict[str, Any]:
    """Time and memory of the analysis and of onnx-tool's on one file, and their ratios."""
    neighbour = str(NEIGHBOUR_PYTHON)
    commands = {
        "convlens": [_script("analyze"), str(model)],
        "onnx_tool": [neighbour, "-m", "onnx_tool", "-i", str(model), "-d",
                      "input:f32:1x3x224x224"],
    }  # fmt: skip
    workers = {"convlens": (sys.executable, OURS, 5), "onnx_tool": (neighbour, THEIRS, 1)}
    processes: dict[str, list[Measured]] = {name: [] for name in commands}
    warm: dict[str, list[Measured]] = {name: [] for name in commands}
    for number in range(ROUNDS + 1):
        for name, command in commands.items():
            process = whole_process(command)
            python, worker, repetitions = workers[name]
            repeated = in_process(python, worker, model, repetitions)
            if number > 0:  # the first round fills the page cache
                processes[name].append(process)
                warm[name] += [
                    dict(zip(repeated, values, strict=True))
                    for values in zip(*repeated.values(), strict=True)
                ]
        print(f"round {number} of {ROUNDS}", file=sys.stderr)
    return {
        "file_megabytes": round(model.stat().st_size / 1e6, 1),
        "process": _beside(processes),
        "in_process": _beside(warm),
    }


def _beside(measured: dict[str, list[Measured]]) -> dict[str, Any]:
    """The medians of both, and how many times as much onnx-tool takes."""
    medians = {name: _medians(rows) for name, rows in measured.items()}
    ours, theirs = medians["convlens"], medians["onnx_tool"]
    return {**medians, "ratio": {key: round(theirs[key] / ours[key], 1) for key in ours}}


def _medians(rows: list[Measured]) -> Measured:
    return {key: round(statistics.median(row[key] for row in rows), 4) for key in rows[0]}


def whole_process(command: list[str]) -> Measured:
    """Run a command; gives its seconds, its processor seconds and its peak memory in megabytes.

    This process has to stay smaller than its children: Linux counts what a child held before its
    exec, which is the parent's memory.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {process.returncode}")
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_megabytes": usage.ru_maxrss * 1024 / 1e6,
    }


def in_process(
    python: str, worker: str, model: Path, repetitions: int = 9
) -> dict[str, list[float]]:
    """Repeat the analysis in one process; gives the seconds and processor seconds of each."""
    command = [python, "-c", worker, str(model), str(repetitions)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, list[float]] = json.loads(done.stdout)
    return measured


def _script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _make_neighbour() -> None:
    if NEIGHBOUR_PYTHON.exists():
        return
    print(f"installing {NEIGHBOUR} into {NEIGHBOUR_PYTHON.parent.parent.name}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", NEIGHBOUR_PYTHON.parent.parent], check=True)
    install = ["-m", "pip", "--disable-pip-version-check", "--quiet", "install", NEIGHBOUR]
    subprocess.run([NEIGHBOUR_PYTHON, *install], check=True)


if __name__ == "__main__":
    main()
