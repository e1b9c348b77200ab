"""Answers a second of one process and of two, with LeNet-5 and raw tensors, under h2load.

Both servers run all the time; rounds alternate between them, in one run on one machine, and medians
are reported. h2load runs on the same processors, and its cost is included. Needs Debian's
`nghttp2-client`.

    python bench/workers.py
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convlens.proto import inference_pb2 as pb

ROUNDS = 7
REQUESTS_A_ROUND = 10_000
CONNECTIONS = 16
STREAMS_A_CONNECTION = 8
WORKERS = (1, 2)
METHOD = "/inference.GRPCInferenceService/ModelInfer"
RESULTS = Path(__file__).parent / "results" / "workers.json"


@dataclass(frozen=True)
class Server:
    """A running server: its gRPC address, and its /metrics."""

    address: str
    metrics_url: str

    def read(self) -> tuple[float, float]:
        """How many calls of ModelInfer ended with OK so far, and the processor's seconds."""
        with urllib.request.urlopen(self.metrics_url) as page:
            lines = page.read().decode().splitlines()

        def value(series: str) -> float:
            return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(series))

        return (
            value('grpc_server_handled_total{grpc_code="OK",grpc_method="ModelInfer"'),
            value("process_cpu_seconds_total"),
        )


def main() -> None:
    """Measure, print and write the rates."""
    rates: dict[int, list[tuple[float, float]]] = {workers: [] for workers in WORKERS}
    with ExitStack() as stack:
        body = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "request"
        body.write_bytes(_framed(_request()))
        servers = {workers: stack.enter_context(_server(workers)) for workers in WORKERS}
        for number in range(ROUNDS + 1):
            for workers, server in servers.items():
                row = measure(server, body)
                if number > 0:  # the first round warms up
                    rates[workers].append(row)
            print(f"round {number} of {ROUNDS}", file=sys.stderr)
    medians = {n: statistics.median(rate for rate, _ in rates[n]) for n in WORKERS}
    costs = {n: statistics.median(cost for _, cost in rates[n]) for n in WORKERS}
    result = {
        "command": "python bench/workers.py",
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python "
        f"{platform.python_version()}",
        "model": "lenet5, one raw tensor a call",
        "connections": CONNECTIONS,
        "calls_in_flight": CONNECTIONS * STREAMS_A_CONNECTION,
        **{f"answers_a_second_workers_{n}": round(medians[n]) for n in WORKERS},
        "ratio": round(medians[2] / medians[1], 2),
        **{f"server_processor_us_an_answer_workers_{n}": round(costs[n], 1) for n in WORKERS},
    }
    print(json.dumps(result, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def measure(server: Server, body: Path) -> tuple[float, float]:
    """Answers a second, and the server's processor microseconds an answer, of one round of h2load.

    Every call must have been answered with OK.
    """
    answered_before, seconds_before = server.read()
    said = subprocess.run(
        [
            "h2load",
            *("-n", str(REQUESTS_A_ROUND), "-t", "1"),
            *("-c", str(CONNECTIONS), "-m", str(STREAMS_A_CONNECTION)),
            *("-H", "content-type: application/grpc", "-H", "te: trailers"),
            *("-d", str(body), f"http://{server.address}{METHOD}"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    answered, seconds = server.read()
    answered -= answered_before
    if answered != REQUESTS_A_ROUND:
        raise SystemExit(f"{answered:g} of {REQUESTS_A_ROUND} calls were answered:\n{said}")
    found = re.search(r"finished in .*?, ([0-9.]+) req/s", said)
    assert found, said
    return float(found.group(1)), (seconds - seconds_before) * 1e6 / answered


def _request() -> bytes:
    request = pb.ModelInferRequest(model_name="lenet5")
    request.inputs.add(name="input", datatype="FP32", shape=[1, 1, 32, 32])
    request.raw_input_contents.append(np.zeros((1, 1, 32, 32), np.float32).tobytes())
    return request.SerializeToString()


def _framed(message: bytes) -> bytes:
    """As gRPC sends it: not compressed, its length, itself."""
    return b"\0" + len(message).to_bytes(4, "big") + message


@contextmanager
def _server(workers: int) -> Iterator[Server]:
    flags = ("--port", "0", "--metrics-port", "0", "--workers", str(workers))
    process = subprocess.Popen(
        [sys.executable, "-m", "convlens.cli", "serve", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        words = process.stdout.readline().split()
        yield Server(words[words.index("on") + 1].rstrip(","), words[-1])
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
