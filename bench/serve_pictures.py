"""The load sweep of `bench/serve.py`, and its pictures."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from curve import Series, draw

from convlens.client.load_chart import Load
from convlens.client.load_chart import draw as draw_loads

CONCURRENCY = (1, 2, 4, 8, 16, 32)
COLOURS = ("#1f77b4", "#d62728", "#1a7f37", "#9467bd")


def sweep_loads(address: str, name: str, picture: Path, seconds: int) -> list[dict[str, Any]]:
    """What `convlens bench` finds with more and more in flight, stage by stage."""
    words = [sys.executable, "-m", "convlens.cli", "bench", "--address", address, "--json"]
    words += ["--model", name, "--pictures", str(picture), "--duration", str(seconds)]
    words += ["--warmup", "0.5", "--concurrency", ",".join(map(str, CONCURRENCY))]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    loads: list[dict[str, Any]] = json.loads(said)["loads"]
    return loads


def draw_pictures(models: list[dict[str, Any]], folder: Path) -> None:
    """Each model's sweep, and how near all come to the ceiling."""
    curves = []
    for model, colour in zip(models, itertools.cycle(COLOURS)):
        loads = [Load(f"{row['concurrency']} in flight", row) for row in model["sweep"]]
        title = f"{model['model']}, served as {model['served_as']}"
        (folder / f"serve-{model['model']}.svg").write_text(draw_loads(title, loads))
        ceiling = model["in_process_per_second"]
        points = [
            (row["concurrency"], 100 * row["answers_per_second"] / ceiling)
            for row in model["sweep"]
        ]
        curves.append(Series(model["model"], points, colour))
    title = "Throughput beside the same work in-process"
    (folder / "serve-ceiling.svg").write_text(draw(curves, title, "requests in flight", "percent"))
