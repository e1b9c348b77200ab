"""What the server costs: its throughput and latency beside the same work done in-process.

The work is a 500-pixel JPEG from bytes to the five best classes (LeNet-5: a small picture).
In-process means threads that decode, run and pick, in the best of several arrangements of threads
and batch sizes. Rounds alternate between the two, in one run on one machine; medians are reported.
h2load is the client, on the same processors: its cost is included, so that the ratios are lower
bounds.

    python bench/serve.py [MODEL...] [-- FLAG OF convlens serve...]
"""

import io
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage import data

from convlens.client import Client
from convlens.proto import classifier_pb2 as pb
from convlens.server.model import Model, load_model
from convlens.server.picture import to_input, to_pixels
from convlens.server.plan import Machine, Plan
from convlens.server.predictions import top_k
from convlens.server.processors import processor_count
from convlens.server.providers import ModelSource
from convlens.server.settings import BUNDLED_MODELS, Settings

MODELS = ("lenet5", "alexnet", "resnet50", "efficientnet_b0")
ROUNDS = 5
ROUND_SECONDS = 10.0
IN_FLIGHT = 32
FOLDER = Path(__file__).parent / "results"
METHOD = "/convlens.v1.Classifier/Classify"


@dataclass(frozen=True)
class Arrangement:
    """How the work is spread in-process: `workers` threads, each with a session of its own."""

    workers: int
    session_threads: int
    batch_size: int


def main() -> None:
    """Measure, print and write the ratios."""
    names, flags = _arguments(sys.argv[1:])
    if shutil.which("h2load") is None:
        sys.exit("bench/serve.py needs h2load: apt-get install nghttp2-client")
    result: dict[str, Any] = {
        "command": f"python bench/serve.py {' '.join(sys.argv[1:])}".strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python "
        f"{platform.python_version()}",
        "models": [],
    }
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        result["models"].append(measure(name, flags))
        print(json.dumps(result["models"][-1], indent=2), flush=True)
        (FOLDER / "serve.json").write_text(json.dumps(result, indent=2) + "\n")


def measure(name: str, flags: list[str]) -> dict[str, Any]:
    """The ratios of one model."""
    path, picture = _model(name), _picture(name)
    source = ModelSource.read(path)
    processors = processor_count()
    models = {
        threads: [
            load_model(name, "1", source, Plan(threads=threads), Machine()) for _ in range(workers)
        ]
        for workers, threads in ((1, processors), (processors, 1))
    }
    arrangements = [
        Arrangement(len(sessions), threads, batch)
        for (threads, sessions), batch in itertools.product(models.items(), (1, 8))
    ]
    best = max(arrangements, key=lambda it: in_process(models[it.session_threads], it, picture))
    rates: list[tuple[float, float]] = []
    latencies: list[tuple[float, float]] = []
    with _server(path.parent, flags) as address, tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        message = pb.ClassifyRequest(model=name, image=picture).SerializeToString()
        body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
        with Client(address) as client:
            client.classify(
                picture, model=name
            )  # h2load sees no more of an answer than that it came
        load(address, body, IN_FLIGHT)
        for number in range(ROUNDS):
            print(f"{name}: round {number + 1} of {ROUNDS}", file=sys.stderr)
            alone = in_process(models[best.session_threads], best, picture)
            rates.append((alone, load(address, body, IN_FLIGHT)[0]))
            latencies.append(
                (one_by_one(models[processors][0], picture), load(address, body, 1)[1])
            )
    ratio = statistics.median(served / alone for alone, served in rates)
    added = statistics.median(served - alone for alone, served in latencies)
    return {
        "model": name,
        "arrangement": vars(best),
        "in_process_per_second": round(statistics.median(alone for alone, _ in rates), 1),
        f"served_{IN_FLIGHT}_in_flight_per_second": round(
            statistics.median(served for _, served in rates), 1
        ),
        "throughput_ratio": round(ratio, 3),
        "in_process_median_ms": round(1e3 * statistics.median(a for a, _ in latencies), 2),
        "added_median_ms": round(1e3 * added, 2),
    }


def in_process(models: list[Model], how: Arrangement, picture: bytes) -> float:
    """Pictures per second without a server."""
    counts = [0] * how.workers
    end = time.perf_counter() + ROUND_SECONDS

    def work(number: int) -> None:
        while time.perf_counter() < end:
            inputs = [_prepare(models[number], picture) for _ in range(how.batch_size)]
            for row in models[number].run((np.stack(inputs),))[0]:
                top_k(row, models[number].card, 5)
            counts[number] += how.batch_size

    start = time.perf_counter()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(how.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def one_by_one(model: Model, picture: bytes) -> float:
    """Median seconds of one picture at a time, without a server."""
    seconds = []
    end = time.perf_counter() + ROUND_SECONDS
    while (start := time.perf_counter()) < end:
        top_k(model.run((_prepare(model, picture)[None],))[0][0], model.card, 5)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def load(address: str, body: Path, in_flight: int) -> tuple[float, float]:
    """Answers per second, and the median seconds of one, with so many in flight all the time."""
    connections = min(in_flight, 4)
    log = body.with_suffix(".log")
    log.unlink(missing_ok=True)
    command = ["h2load", "--duration", str(round(ROUND_SECONDS)), "--log-file", str(log)]
    command += ["--clients", str(connections), "--max-concurrent-streams"]
    command += [str(in_flight // connections), "--data", str(body)]
    command += ["--header", "content-type: application/grpc", "--header", "te: trailers"]
    subprocess.run([*command, f"http://{address}{METHOD}"], check=True, capture_output=True)
    rows = [line.split() for line in log.read_text().splitlines()]
    if not rows or any(row[1] != "200" for row in rows):
        raise RuntimeError(f"{len(rows)} answers in {ROUND_SECONDS} s, and not all were good")
    seconds = [int(row[2]) / 1e6 for row in rows]
    return len(seconds) / ROUND_SECONDS, statistics.median(seconds)


def _prepare(model: Model, picture: bytes) -> Any:
    preprocessing = model.card.preprocessing
    assert preprocessing is not None
    pixels = model.signature.inputs[0].datatype == "UINT8"
    return (to_pixels if pixels else to_input)(picture, preprocessing, Settings().max_pixels)


def _model(name: str) -> Path:
    """The model's file, alone in its folder; exported with random weights where it is missing."""
    path = FOLDER / "models" / name / f"{name}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "lenet5":
            shutil.copy(BUNDLED_MODELS / path.name, path)
        else:
            command = [sys.executable, "-m", "convlens.cli", "export", name]
            subprocess.run([*command, "--weights", "random", "-o", path], check=True)
    return path


def _picture(name: str) -> bytes:
    if name == "lenet5":
        return min(BUNDLED_MODELS.parent.glob("digits/*.png")).read_bytes()
    jpeg = io.BytesIO()
    Image.fromarray(data.coffee()).resize((500, 375)).save(jpeg, "JPEG", quality=90)
    return jpeg.getvalue()


def _arguments(words: list[str]) -> tuple[list[str], list[str]]:
    split = words.index("--") if "--" in words else len(words)
    return words[:split] or list(MODELS), words[split + 1 :]


@contextmanager
def _server(models: Path, flags: list[str]) -> Iterator[str]:
    command = [sys.executable, "-m", "convlens.cli", "serve", "--port", "0", "--metrics-port", "0"]
    process = subprocess.Popen(
        [*command, "--models", models, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
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
