"""What an analysis costs: time and memory beside onnx-tool's, on the same file, in one run.

Rounds alternate between the two; medians are reported. Twice the work is timed: a whole process,
as a user starts it, and in-process with everything imported and warm. onnx-tool lives in an
environment of its own, which is made if it is missing.

    python bench/analyze.py
"""

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

from convlens.server.settings import BUNDLED_MODELS

ROUNDS = 3
ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "analyze.json"
NEIGHBOUR = "onnx-tool==1.0.1"
NEIGHBOUR_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
TORCHVISION = ("alexnet", "vgg16", "resnet50", "efficientnet_b0", "convnext_tiny")

EXPORT = """
import sys, onnx, torch, torchvision
from convlens.export.to_onnx import to_onnx
for name in sys.argv[2:]:
    torch.manual_seed(0)
    network = getattr(torchvision.models, name)(weights=None)
    onnx.save_model(to_onnx(network, (3, 224, 224)), f"{sys.argv[1]}/{name}.onnx")
"""

# Both workers print the seconds of each repetition and then the peak memory in bytes. The first
# repetition warms up and is not counted.
OURS = """
import json, resource, sys, time
from convlens.analysis import analyze
seconds = []
for _ in range(int(sys.argv[2]) + 1):
    start = time.perf_counter()
    report = analyze(sys.argv[1])
    seconds.append(time.perf_counter() - start)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": seconds[1:], "peak_bytes": peak, "macs": report.totals.macs}))
"""
THEIRS = """
import contextlib, io, json, resource, sys, time
import numpy, onnx_tool
picture = {"input": numpy.zeros((1, 3, 224, 224), numpy.float32)}
seconds = []
with contextlib.redirect_stdout(io.StringIO()):
    for _ in range(int(sys.argv[2]) + 1):
        start = time.perf_counter()
        onnx_tool.model_profile(sys.argv[1], picture)
        seconds.append(time.perf_counter() - start)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": seconds[1:], "peak_bytes": peak}))
"""


def main() -> None:
    """Measure, print and write the ratios."""
    _make_neighbour()
    with tempfile.TemporaryDirectory() as folder:
        print("exporting with random weights", file=sys.stderr)
        subprocess.run([sys.executable, "-c", EXPORT, folder, *TORCHVISION], check=True)
        models = {name: Path(folder) / f"{name}.onnx" for name in TORCHVISION}
        models["lenet5"] = BUNDLED_MODELS / "lenet5.onnx"
        result = {
            "command": "python bench/analyze.py",
            "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python "
            f"{platform.python_version()}",
            "vgg16": beside_neighbour(models["vgg16"]),
            "in_process_ms": {
                name: round(1e3 * statistics.median(in_process(sys.executable, OURS, path)[0]), 1)
                for name, path in sorted(models.items())
            },
            "help_seconds": round(statistics.median(_help_seconds() for _ in range(5)), 3),
        }
    print(json.dumps(result, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def beside_neighbour(model: Path) -> dict[str, Any]:
    """Time and memory of the analysis and of onnx-tool's on one file, and their ratios."""
    neighbour = str(NEIGHBOUR_PYTHON)
    commands = {
        "convlens": [_script("analyze"), str(model)],
        "onnx_tool": [neighbour, "-m", "onnx_tool", "-i", str(model), "-d",
                      "input:f32:1x3x224x224"],
    }  # fmt: skip
    workers = {"convlens": (sys.executable, OURS, 5), "onnx_tool": (neighbour, THEIRS, 1)}
    process_seconds: dict[str, list[float]] = {name: [] for name in commands}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    peaks: dict[str, list[int]] = {name: [] for name in commands}
    for number in range(ROUNDS + 1):
        for name, command in commands.items():
            taken, peak = whole_process(command)
            repeated, _ = in_process(*workers[name][:2], model, workers[name][2])
            if number > 0:  # the first round fills the page cache
                process_seconds[name].append(taken)
                peaks[name].append(peak)
                seconds[name] += repeated
        print(f"round {number} of {ROUNDS}", file=sys.stderr)
    table = {
        "process_seconds": {k: round(statistics.median(v), 3) for k, v in process_seconds.items()},
        "in_process_seconds": {k: round(statistics.median(v), 4) for k, v in seconds.items()},
        "peak_megabytes": {k: round(statistics.median(v) / 1e6, 1) for k, v in peaks.items()},
    }
    ratios = {
        f"{measure}_ratio": round(row["onnx_tool"] / row["convlens"], 1)
        for measure, row in table.items()
    }
    return {"file_megabytes": round(model.stat().st_size / 1e6, 1), **table, **ratios}


def whole_process(command: list[str]) -> tuple[float, int]:
    """Run a command; gives its seconds and its peak memory in bytes.

    This process has to stay smaller than its children: Linux counts what a child held before its
    exec, which is the parent's memory.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    process.returncode = 0
    return seconds, usage.ru_maxrss * 1024


def in_process(
    python: str, worker: str, model: Path, repetitions: int = 5
) -> tuple[list[float], int]:
    """Repeat the analysis in one process; gives the seconds of each and the peak memory."""
    command = [python, "-c", worker, str(model), str(repetitions)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured = json.loads(done.stdout)
    return measured["seconds"], measured["peak_bytes"]


def _help_seconds() -> float:
    return whole_process([_script("analyze"), "--help"])[0]


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
