"""What the server costs: its throughput and latency as ratios to the same work done in-process.

Rounds alternate between the two, in one run on one machine; medians are reported. The client runs
on the same processors and its cost is included, so the ratios are lower bounds.

    make bench
"""

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convlens.client import AsyncClient, Client
from convlens.server.model import Model, load_model
from convlens.server.picture import to_input
from convlens.server.plan import Machine, Plan
from convlens.server.predictions import top_k
from convlens.server.processors import processor_count
from convlens.server.providers import ModelSource
from convlens.server.settings import BUNDLED_MODELS, Settings

ROUNDS = 7
PICTURES_A_ROUND = 1000
IN_FLIGHT = 32
RESULTS = Path(__file__).parent / "results" / "serve.json"


def main() -> None:
    """Measure, print and write the ratios."""
    pictures = [path.read_bytes() for path in sorted(BUNDLED_MODELS.parent.glob("digits/*.png"))]
    work = [pictures[index % len(pictures)] for index in range(PICTURES_A_ROUND)]
    source = ModelSource.read(BUNDLED_MODELS / "lenet5.onnx")
    model = load_model("lenet5", "1", source, Plan(threads=processor_count()), Machine())
    alone, one_at_a_time, many_at_a_time = [], [], []
    with _server() as address:
        for number in range(ROUNDS + 1):
            rows = in_process(model, work), one_by_one(address, work), many(address, work)
            if number > 0:  # the first round warms up
                for column, row in zip((alone, one_at_a_time, many_at_a_time), rows, strict=True):
                    column.append(row)
            print(f"round {number} of {ROUNDS}", file=sys.stderr)
    in_process_us, served_us, served_many_us = (
        1e6 * statistics.median(column) / PICTURES_A_ROUND
        for column in (alone, one_at_a_time, many_at_a_time)
    )
    result = {
        "command": "make bench",
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python "
        f"{platform.python_version()}",
        "model": "lenet5",
        "in_process_us": round(in_process_us, 1),
        "served_one_at_a_time_us": round(served_us, 1),
        "added_by_the_server_us": round(served_us - in_process_us, 1),
        f"served_{IN_FLIGHT}_at_a_time_us": round(served_many_us, 1),
        "throughput_ratio_to_in_process": round(in_process_us / served_many_us, 3),
    }
    print(json.dumps(result, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def in_process(model: Model, work: list[bytes]) -> float:
    """Seconds for the same pictures without a server: decode, run, top-k, one after the other."""
    preprocessing = model.card.preprocessing
    assert preprocessing is not None
    start = time.perf_counter()
    for image in work:
        tensor = to_input(image, preprocessing, Settings().max_pixels)
        top_k(model.run((tensor[None],))[0][0], model.card, 5)
    return time.perf_counter() - start


def one_by_one(address: str, work: list[bytes]) -> float:
    """Seconds with one picture in flight at a time."""
    with Client(address) as client:
        start = time.perf_counter()
        for image in work:
            client.classify(image)
        return time.perf_counter() - start


def many(address: str, work: list[bytes]) -> float:
    """Seconds with `IN_FLIGHT` pictures in flight all the time."""

    async def caller(client: AsyncClient, images: Iterator[bytes]) -> None:
        for image in images:
            await client.classify(image)

    async def run() -> float:
        images = iter(work)
        async with AsyncClient(address) as client:
            start = time.perf_counter()
            await asyncio.gather(*(caller(client, images) for _ in range(IN_FLIGHT)))
            return time.perf_counter() - start

    return asyncio.run(run())


@contextmanager
def _server() -> Iterator[str]:
    command = [sys.executable, "-m", "convlens.cli", "serve", "--port", "0", "--metrics-port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        words = process.stdout.readline().split()
        yield words[words.index("on") + 1].rstrip(",")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
