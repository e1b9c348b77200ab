"""What is left of the server's throughput when more is asked of it than it can do.

ResNet-18 (random weights: they cost the same) classifies photographs. The capacity is measured
first, with a fixed number of pictures in flight; then pictures are sent at 0.1 to 10 times that
rate, whether or not earlier ones have been answered, each with a deadline. Answers that met their
deadline are the goodput. The sender runs in a process of its own on the same processors: what it
takes there is reported, and is missing from the server's goodput. Of a refusal both are told: when
the sender saw it, and when the server had decided it, which leaves the sender's own delay out.

    make bench-overload
"""

import argparse
import collections
import gc
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from connection import Call
from curve import Series, draw
from PIL import Image
from sender import Sender, closed_loop, open_loop
from server_process import ServerProcess, serve
from skimage import data as photographs
from sklearn.datasets import load_sample_images

from convlens.proto import classifier_pb2 as pb

LOADS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)
ROUNDS = 3
SECONDS = 5.0
IN_FLIGHT = 32  # while the capacity is measured
METHOD = "/convlens.v1.Classifier/Classify"
RESULTS = Path(__file__).parent / "results"


@dataclass
class Outcome:
    """What became of the pictures that were sent at one rate.

    Attributes:
        seconds: of sending.
        sent: pictures.
        sender_cores: processors that the sender kept busy.
        behind_ms: how far the sender fell behind its own timetable.
        waited_ms: the longest that a picture waited in the sender for the server's windows.
        good: answers within the deadline; those after it are late.
        refusal_ms: as the sender saw them.
        refusal_server_ms: from a request's coming in to the server's decision.
        refused_by: status codes.
    """

    seconds: float
    sent: int
    sender_cores: float
    behind_ms: float
    waited_ms: float = 0.0
    good: int = 0
    late: int = 0
    answer_ms: list[float] = field(default_factory=list)
    refusal_ms: list[float] = field(default_factory=list)
    refusal_server_ms: list[float] = field(default_factory=list)
    refused_by: collections.Counter[str] = field(default_factory=collections.Counter)

    def count(self, call: Call) -> None:
        """Take one picture's end into account."""
        self.waited_ms = max(self.waited_ms, 1e3 * call.waited_seconds)
        if call.is_late:
            self.late += 1
        elif call.code == "OK":
            self.good += 1
            self.answer_ms.append(1e3 * call.seconds)
        else:
            self.refused_by[call.code] += 1
            self.refusal_ms.append(1e3 * call.seconds)
            if call.left_us is not None:
                self.refusal_server_ms.append(1e3 * call.deadline_seconds - call.left_us / 1e3)


def main() -> None:
    """Measure, print, and write the figures and the picture of the curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS, metavar="TIMES")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="in which the loads take turns")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each load, in a round")
    parser.add_argument("--deadline", type=float, default=0.5, metavar="SECONDS")
    parser.add_argument("--capacity", type=float, metavar="RATE", help="default: it is measured")
    parser.add_argument("--pictures", type=Path, default=RESULTS, metavar="FOLDER")
    options = parser.parse_args()
    model = _model()
    with (
        serve("--models", str(model.parent)) as server,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as sender,
    ):
        memory = Memory(server)
        capacity = options.capacity
        if not capacity:
            capacity = sender.submit(measure_capacity, server.address, options.seconds).result()
        print(f"capacity {capacity:.1f} pictures a second", file=sys.stderr)
        measured: dict[float, list[dict[str, Any]]] = {load: [] for load in options.loads}
        for number, load in itertools.product(range(options.rounds), options.loads):
            before = server.processor_seconds()
            arguments = (server.address, load * capacity, options.seconds, options.deadline)
            outcome = sender.submit(send, *arguments).result()
            cpu = server.processor_seconds() - before
            row = {"load": load, **_row(outcome), "server_cpu": round(cpu / outcome.seconds, 2)}
            row["good_a_cpu_second"] = round(outcome.good / cpu, 1)
            row["server_mebibytes"] = memory.most_since_last()
            measured[load].append(row)
            print(json.dumps({"round": number + 1, **row}), file=sys.stderr)
    rows = [_medians(rounds) for rounds in measured.values()]
    best = max(row["goodput"] for row in rows)
    result = {
        "command": "make bench-overload",
        "processors": os.cpu_count(),
        "deadline_ms": options.deadline * 1e3,
        "capacity": round(capacity, 1),
        "goodput_at_the_highest_load_of_the_best": round(rows[-1]["goodput"] / best, 3),
        "loads": rows,
    }
    print(json.dumps({key: value for key, value in result.items() if key != "loads"}, indent=2))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "overload.json").write_text(json.dumps(result, indent=2) + "\n")
    curves = (
        Series("goodput", [(row["load"], row["goodput"]) for row in rows], "#1a7f37"),
        Series(
            "sent, up to the capacity",
            [(row["load"], min(row["sent"], capacity)) for row in rows],
            "#999999",
        ),
    )
    title = f"ResNet-18: answers within {options.deadline * 1e3:.0f} ms"
    picture = draw(curves, title, "load, times the capacity", "answers/s")
    options.pictures.mkdir(parents=True, exist_ok=True)
    (options.pictures / "overload.svg").write_text(picture)


def _medians(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure of a load; what there was none of in a round is left out of its median."""
    row: dict[str, Any] = {}
    for key in rounds[0]:
        values = [each[key] for each in rounds if each[key] is not None]
        if not values:
            row[key] = None
        elif isinstance(values[0], dict):
            names = dict.fromkeys(name for value in values for name in value)
            row[key] = {
                name: round(statistics.median(value.get(name, 0.0) for value in values), 1)
                for name in names
            }
        else:
            row[key] = round(statistics.median(values), 3)
    return row


def measure_capacity(address: str, seconds: float) -> float:
    """Pictures a second with `IN_FLIGHT` of them in flight all the time."""
    return uvloop.run(_keep_busy(address, seconds))


def send(address: str, rate: float, seconds: float, deadline: float) -> Outcome:
    """Send so many pictures a second, at random times, and wait until each has its end."""
    gc.collect()
    gc.freeze()  # else a collection of all that was imported stops the sender for 0.1 s
    return uvloop.run(_send(address, rate, seconds, deadline))


async def _keep_busy(address: str, seconds: float) -> float:
    async with Sender(address, METHOD, _requests()) as sender:
        await closed_loop(sender, IN_FLIGHT, seconds / 4)  # warms up
        start = time.perf_counter()
        calls = await closed_loop(sender, IN_FLIGHT, seconds)
    ends = [call.ended_at for call in calls if call.code == "OK"]
    return sum(start <= end < start + seconds for end in ends) / seconds


async def _send(address: str, rate: float, seconds: float, deadline: float) -> Outcome:
    async with Sender(address, METHOD, _requests()) as sender:
        cpu, start = time.process_time(), time.perf_counter()
        behind = await open_loop(sender, rate, seconds, deadline)
        cpu = time.process_time() - cpu
        calls = sender.read()
    sending_seconds = max(seconds, calls[-1].asked_at - start)
    outcome = Outcome(sending_seconds, len(calls), cpu / sending_seconds, behind_ms=behind * 1e3)
    for call in calls:
        outcome.count(call)
    return outcome


def _requests() -> list[bytes]:
    """Messages with photographs as JPEG, ready to be sent."""
    arrays = [
        *(getattr(photographs, name)() for name in ("chelsea", "rocket", "coffee", "astronaut")),
        *load_sample_images().images,
    ]
    requests = []
    for array in arrays:
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "JPEG", quality=90)
        requests.append(pb.ClassifyRequest(image=buffer.getvalue()).SerializeToString())
    return requests


def _row(outcome: Outcome) -> dict[str, object]:
    seconds = outcome.seconds
    return {
        "sent": round(outcome.sent / seconds, 1),
        "goodput": round(outcome.good / seconds, 1),
        "late": round(outcome.late / seconds, 1),
        "refused": {code: round(n / seconds, 1) for code, n in outcome.refused_by.items()},
        "answer_ms": _quantiles(outcome.answer_ms),
        "refusal_ms": _quantiles(outcome.refusal_ms),
        "refusal_server_ms": _quantiles(outcome.refusal_server_ms),
        "sender_behind_ms": round(outcome.behind_ms, 1),
        "sender_waited_ms": round(outcome.waited_ms, 1),
        "sender_cpu": round(outcome.sender_cores, 3),
        "sender_cpu_ms_a_request": round(1e3 * outcome.sender_cores * seconds / outcome.sent, 3),
    }


def _quantiles(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {f"p{q}": round(float(np.percentile(values, q)), 1) for q in (50, 99)}


class Memory:
    """Samples how much memory a process takes, and so long as it lives."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._samples: list[int] = []
        threading.Thread(target=self._sample, daemon=True).start()

    def most_since_last(self) -> float:
        """The most since the last time that this was asked, in MiB."""
        samples, self._samples = self._samples, []
        return round(max(samples) / 2**20, 1)

    def _sample(self) -> None:
        while self._server.process.returncode is None:
            self._samples.append(self._server.resident_bytes())
            time.sleep(0.1)


def _model() -> Path:
    path = RESULTS / "overload-models" / "resnet18.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = ("export", "resnet18", "--weights", "random", "-o", str(path))
        subprocess.run([sys.executable, "-m", "convlens.cli", *command], check=True)
    return path


if __name__ == "__main__":
    main()
