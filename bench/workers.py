"""Answers a second of LeNet-5 with raw tensors, where Python is the cost, under h2load.

One process and two, one tensor a call, several in a message, and streams of both; beside them a
bare handler, which is what gRPC alone costs. All servers run all the time; rounds alternate between
them, in one run on one machine, and medians are reported. h2load runs on the same processors, and
its cost is included in the rates. Needs Debian's `nghttp2-client`.

    python bench/workers.py [--rounds 7]
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from server_process import run, serve

from convlens.proto import inference_pb2 as pb

WORKERS = (1, 2)
IDLE_SECONDS = 10.0
SERVICE = "/inference.GRPCInferenceService"
HERE = Path(__file__).parent
RESULTS = HERE / "results" / "workers.json"


@dataclass(frozen=True)
class Load:
    """What h2load sends.

    Attributes:
        method: of the service.
        rows: of one message: tensors that are one request.
        messages: of one call.
        calls: in a round.
        connections: of the client.
        streams: on each connection at the same time.
    """

    method: str
    rows: int
    messages: int
    calls: int
    connections: int
    streams: int

    @property
    def answers(self) -> int:
        """That a round must bring."""
        return self.calls * self.messages * self.rows


ONE_A_CALL = Load("ModelInfer", 1, 1, 6000, 16, 8)
LOADS = {
    "one a call": ONE_A_CALL,
    "64 in a message": Load("ModelInfer", 64, 1, 600, 4, 1),
    "a stream of messages of one": Load("ModelStreamInfer", 1, 256, 32, 4, 1),
    "a stream of messages of 64": Load("ModelStreamInfer", 64, 16, 40, 4, 1),
}


@dataclass(frozen=True)
class Server:
    """A running server: its gRPC address, its /metrics, and what counts its answers there."""

    address: str
    metrics_url: str
    answers: str

    def read(self) -> tuple[float, float]:
        """How many answers were given so far, and the processor's seconds."""
        with urllib.request.urlopen(self.metrics_url) as page:
            lines = page.read().decode().splitlines()

        def value(series: str) -> float:
            return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(series))

        return value(self.answers), value("process_cpu_seconds_total")


def main() -> None:
    """Measure, print and write the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with ExitStack() as stack:
        bodies = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bare = stack.enter_context(_bare())
        servers = {workers: stack.enter_context(_convlens(workers)) for workers in WORKERS}
        idle = {f"{workers} workers": idle_percent(server) for workers, server in servers.items()}
        cases = {"bare handler, one a call": (bare, ONE_A_CALL)} | {
            f"{workers} workers, {name}": (server, load)
            for name, load in LOADS.items()
            for workers, server in servers.items()
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
        for number in range(rounds + 1):
            for name, (server, load) in cases.items():
                row = measure(server, load, bodies)
                if number > 0:  # the first round warms up
                    found[name].append(row)
            print(f"round {number} of {rounds}", file=sys.stderr)
    result = {
        "command": f"python bench/workers.py --rounds {rounds}",
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python "
        f"{platform.python_version()}",
        "model": "lenet5, raw tensors",
        "idle_percent_of_a_processor": idle,
        "rows": [
            {
                "case": name,
                "answers_a_second": round(statistics.median(rate for rate, _ in rows)),
                "best_round": round(max(rate for rate, _ in rows)),
                "server_processor_us_an_answer": round(statistics.median(us for _, us in rows), 1),
            }
            for name, rows in found.items()
        ],
    }
    print(json.dumps(result, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def idle_percent(server: Server) -> float:
    """What a server with a loaded model takes of a processor while nobody asks."""
    seconds_before = server.read()[1]
    time.sleep(IDLE_SECONDS)
    return round(100 * (server.read()[1] - seconds_before) / IDLE_SECONDS, 2)


def measure(server: Server, load: Load, bodies: Path) -> tuple[float, float]:
    """Answers a second, and the server's processor microseconds an answer, of one round of h2load.

    Every tensor must have been answered.
    """
    body = bodies / f"{load.rows}x{load.messages}"
    body.write_bytes(_message(load.rows) * load.messages)
    answered_before, seconds_before = server.read()
    said = subprocess.run(
        [
            "h2load",
            *("-n", str(load.calls), "-t", "1"),
            *("-c", str(load.connections), "-m", str(load.streams)),
            *("-H", "content-type: application/grpc", "-H", "te: trailers"),
            *("-d", str(body), f"http://{server.address}{SERVICE}/{load.method}"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    answered, seconds = server.read()
    answered -= answered_before
    if answered != load.answers:
        raise SystemExit(f"{answered:g} of {load.answers} tensors were answered:\n{said}")
    found = re.search(r"finished in .*?, ([0-9.]+) req/s", said)
    assert found, said
    rate = float(found.group(1)) * load.messages * load.rows
    return rate, (seconds - seconds_before) * 1e6 / answered


def _message(rows: int) -> bytes:
    """A request as gRPC sends it: not compressed, its length, itself."""
    request = pb.ModelInferRequest(model_name="lenet5")
    request.inputs.add(name="input", datatype="FP32", shape=[rows, 1, 32, 32])
    request.raw_input_contents.append(np.zeros((rows, 1, 32, 32), np.float32).tobytes())
    message = request.SerializeToString()
    return b"\0" + len(message).to_bytes(4, "big") + message


@contextmanager
def _convlens(workers: int) -> Iterator[Server]:
    with serve("--workers", str(workers)) as server:
        counter = 'convlens_stage_seconds_count{model="lenet5",stage="total"'
        yield Server(server.address, server.metrics_url, counter)


@contextmanager
def _bare() -> Iterator[Server]:
    with run([sys.executable, str(HERE / "bare.py")]) as server:
        yield Server(server.address, server.metrics_url, "bare_answers_total")


if __name__ == "__main__":
    main()
