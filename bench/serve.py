"""What the server costs: its throughput and latency beside the same work done in-process.

The work is a 500-pixel JPEG from bytes to the five best classes (LeNet-5: a small picture).
In-process means threads that decode, run and pick, in the best of several arrangements: the plan
that the server uses (with what `convlens tune` wrote beside the file), and others, of threads and
batch sizes. One picture at a time both run as the server does. Rounds alternate between the two, in
one run on one machine; medians are reported. h2load is the client, on the same processors: its cost
is included, so that the ratios are lower bounds. The pictures are of what `convlens bench` finds.

    python bench/serve.py [MODEL...] [--tune] [--pictures FOLDER] [-- FLAG OF convlens serve...]
"""

import argparse
import io
import itertools
import json
import os
import platform
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from serve_pictures import draw_pictures, sweep_loads
from server_process import serve
from skimage import data

from convlens.cli.huge_pages import start_again_with_huge_pages
from convlens.client import Client
from convlens.proto import classifier_pb2 as pb
from convlens.server.model import Model, load_model
from convlens.server.picture import to_input, to_pixels
from convlens.server.plan import Machine, Plan
from convlens.server.precision import answering_precision
from convlens.server.predictions import top_k
from convlens.server.processors import processor_count
from convlens.server.providers import ModelSource
from convlens.server.providers.cache import processor_name
from convlens.server.settings import BUNDLED_MODELS, Settings
from convlens.server.tuned_file import make_planner

MODELS = ("lenet5", "alexnet", "resnet50", "efficientnet_b0")
IN_FLIGHT = 32
FOLDER = Path(__file__).parent / "results"
MATERIAL = Path(__file__).parent / "peers" / "material.py"
CACHE = FOLDER / "cache"
METHOD = "/convlens.v1.Classifier/Classify"


@dataclass(frozen=True)
class Arrangement:
    """How the work is spread in-process.

    Attributes:
        plan: that the sessions are opened with.
        workers: threads that decode, run and pick.
        batch_size: pictures of each of their runs.
        source: the file that answers.
    """

    plan: Plan
    workers: int
    batch_size: int
    source: ModelSource = field(repr=False)


def main() -> None:
    """Measure, print and write the ratios."""
    start_again_with_huge_pages()  # as the server does
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", default=MODELS)
    parser.add_argument("--tune", action="store_true", help="for this machine, before (minutes)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--pictures", type=Path, default=FOLDER, metavar="FOLDER")
    options = parser.parse_args(words[:split])
    if shutil.which("h2load") is None:
        sys.exit("bench/serve.py needs h2load: apt-get install nghttp2-client")
    result: dict[str, Any] = {
        "command": shlex.join(["python", "bench/serve.py", *words]),
        "machine": f"{processor_name()}, {processor_count()} of {os.cpu_count()} processors, "
        f"Python {platform.python_version()}",
        "processor_flags": _processor_flags(),
        "models": [],
    }
    FOLDER.mkdir(exist_ok=True)
    for name in options.models:
        if options.tune:
            subprocess.run([sys.executable, MATERIAL, name], check=True)
        result["models"].append(measure(name, words[split + 1 :], options))
        print(json.dumps(result["models"][-1], indent=2), flush=True)
        (FOLDER / "serve.json").write_text(json.dumps(result, indent=2) + "\n")
    options.pictures.mkdir(parents=True, exist_ok=True)
    draw_pictures(result["models"], options.pictures)


def measure(name: str, flags: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """The ratios of one model, and the load sweep beside them."""
    path, picture, seconds = _model(name), _picture(name), options.seconds
    candidates = _arrangements(path)
    models = {
        (it.plan, it.source.path): load_model(name, "1", it.source, it.plan, Machine(CACHE))
        for it in candidates
    }

    def alone(how: Arrangement, for_seconds: float) -> float:
        return in_process(models[how.plan, how.source.path], how, picture, for_seconds)

    best = max(candidates, key=lambda how: alone(how, min(seconds, 2)))
    rounds: list[tuple[float, Served]] = []
    lone: list[tuple[float, Served]] = []
    with serve("--models", str(path.parent), *flags) as server, TemporaryDirectory() as folder:
        address = server.address
        body = Path(folder) / "body"
        message = pb.ClassifyRequest(model=name, image=picture).SerializeToString()
        body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
        with Client(address) as client:  # h2load sees no more of an answer than that it came
            client.classify(picture, model=name)
        load(address, body, IN_FLIGHT, 2)
        served = candidates[0]  # is how the server runs it
        for number in range(options.rounds):
            print(f"{name}: round {number + 1} of {options.rounds}", file=sys.stderr)
            rounds.append((alone(best, seconds), load(address, body, IN_FLIGHT, seconds)))
            model = models[served.plan, served.source.path]
            lone += [  # they differ by little, and so take turns more often
                (one_by_one(model, picture, 1), load(address, body, 1, 1)) for _ in range(seconds)
            ]
        picture_file = Path(folder) / "picture"
        picture_file.write_bytes(picture)
        sweep = sweep_loads(address, name, picture_file, min(seconds, 3))
    in_process_rate = statistics.median(rate for rate, _ in rounds)
    return {
        "model": name,
        "served_as": _described(served),
        "in_process_as": f"{_described(best)}; {best.workers} threads that decode and run, "
        f"batches of {best.batch_size}",
        "in_process_per_second": round(in_process_rate, 1),
        "served_per_second": round(statistics.median(it[1].per_second for it in rounds), 1),
        "throughput_ratio": round(statistics.median(it[1].per_second / it[0] for it in rounds), 3),
        "in_process_median_ms": round(1e3 * statistics.median(it[0] for it in lone), 2),
        "added_median_ms": round(
            1e3 * statistics.median(it[1].median_seconds - it[0] for it in lone), 2
        ),
        "client_ms_a_request": round(statistics.median(it[1].client_ms for it in rounds), 3),
        "sweep": sweep,
    }


def _described(how: Arrangement) -> str:
    path = how.source.path
    return f"{path.name}: {how.plan.described(answering_precision(path, how.plan))}"


def _arrangements(path: Path) -> list[Arrangement]:
    """How the server runs the file, first; then what else is tried in-process."""
    source, processors = ModelSource.read(path), processor_count()
    most = Settings().max_batch_size
    planner = make_planner("cpu", "fp32", "throughput", processors, most, any_provider=True)
    chosen = planner.choose(source)
    plan = chosen.plan
    workers = sorted({plan.instances, processors})
    sizes = sorted({1, 8, plan.max_batch_size})
    tuned = [
        Arrangement(plan, count, size, chosen.source)
        for count, size in itertools.product(workers, sizes)
    ]
    others = [
        Arrangement(Plan(threads=threads, instances=count), count, size, source)
        for (count, threads), size in itertools.product(((1, processors), (processors, 1)), (1, 8))
    ]
    return [*tuned, *others]


def _processor_flags() -> list[str]:
    """Of those that matter to networks, the ones that this machine has."""
    words = set(Path("/proc/cpuinfo").read_text().split())
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    return [flag for flag in wanted if flag in words]


def in_process(model: Model, how: Arrangement, picture: bytes, seconds: float) -> float:
    """Pictures per second without a server."""
    counts = [0] * how.workers
    end = time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < end:
            inputs = [_prepare(model, picture) for _ in range(how.batch_size)]
            for row in model.run((np.stack(inputs),))[0]:
                top_k(row, model.card, 5)
            counts[number] += how.batch_size

    start = time.perf_counter()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(how.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def one_by_one(model: Model, picture: bytes, seconds: float) -> float:
    """Median seconds of one picture at a time, without a server."""
    took = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        top_k(model.run((_prepare(model, picture)[None],))[0][0], model.card, 5)
        took.append(time.perf_counter() - start)
    return statistics.median(took)


@dataclass(frozen=True)
class Served:
    """What h2load found: answers a second, the median one's time, its own time for each."""

    per_second: float
    median_seconds: float
    client_ms: float


def load(address: str, body: Path, in_flight: int, seconds: int) -> Served:
    """Keep so many requests in flight all the time."""
    connections = min(in_flight, 4)
    log = body.with_suffix(".log")
    log.unlink(missing_ok=True)
    command = ["h2load", "--duration", str(seconds), "--log-file", str(log)]
    command += ["--clients", str(connections), "--max-concurrent-streams"]
    command += [str(in_flight // connections), "--data", str(body)]
    command += ["--header", "content-type: application/grpc", "--header", "te: trailers"]
    before = _children_seconds()
    subprocess.run([*command, f"http://{address}{METHOD}"], check=True, capture_output=True)
    spent = _children_seconds() - before
    rows = [line.split() for line in log.read_text().splitlines()]
    if not rows or any(row[1] != "200" for row in rows):
        raise RuntimeError(f"{len(rows)} answers in {seconds} s, and not all were good")
    median = statistics.median(int(row[2]) / 1e6 for row in rows)
    return Served(len(rows) / seconds, median, 1e3 * spent / len(rows))


def _children_seconds() -> float:
    """Processor time of the processes that have ended: of h2load, not of the server."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


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


if __name__ == "__main__":
    main()
