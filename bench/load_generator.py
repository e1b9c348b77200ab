"""Whether `convlens bench` agrees with h2load: the same request, server and concurrency, in turns.

The generators have one processor, the server another one. The ratio of a round is `convlens bench`
/ h2load; the median over all rounds is reported. It needs a machine that does nothing else:
`server_cores` tells whether the server had its whole processor. `reach` is what the generator
manages where the server costs next to nothing: nghttpd, which answers every request with a file.

    apt-get install nghttp2-client nghttp2-server
    python bench/load_generator.py --picture server/bundled/digits/3-0045.png [-- FLAG OF serve...]
"""

import argparse
import json
import os
import platform
import re
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from server_process import serve

from convlens.client.load_target import CLASSIFY, picture_target
from convlens.proto import classifier_pb2 as pb

RESULTS = Path(__file__).parent / "results" / "load_generator.json"
SERVER_PROCESSOR, CLIENT_PROCESSOR = "0", "1"


def main() -> None:
    """Measure, print and write the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, help="folder (default: the bundled LeNet-5)")
    parser.add_argument("--picture", type=Path, required=True, help="that is sent")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parser.add_argument("flags", nargs="*", help="of convlens serve, after --")
    arguments = parser.parse_args()
    rounds: list[dict[str, dict[str, float]]] = []
    flags = ["--models", str(arguments.models)] if arguments.models else []
    with serve(*flags, *arguments.flags, under=["taskset", "-c", SERVER_PROCESSOR]) as server:
        for number in range(arguments.rounds + 1):
            row: dict[str, dict[str, float]] = {}
            for name, generator in (("h2load", _h2load), ("bench", _bench)):
                before = server.processor_seconds()
                row[name] = generator(server.address, arguments)
                spent = server.processor_seconds() - before
                row[name]["server_cores"] = round(spent / arguments.seconds, 2)
            if number > 0:  # the first round warms the server up
                rounds.append(row)
            print(f"round {number}: {row}", file=sys.stderr)
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "reach": _reach(arguments),
        "throughput_ratio": _ratio(rounds, "answers_per_second"),
        "mean_latency_ratio": _ratio(rounds, "mean_ms"),
        "rounds": rounds,
    }
    print(json.dumps({key: result[key] for key in result if key != "rounds"}, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def _ratio(rounds: list[dict[str, dict[str, float]]], what: str) -> float:
    return round(statistics.median(row["bench"][what] / row["h2load"][what] for row in rounds), 3)


def _reach(arguments: argparse.Namespace) -> dict[str, float]:
    """What the generator manages against a server that costs next to nothing."""
    answer = pb.ClassifyResponse(
        predictions=[pb.Prediction(index=index, probability=0.2) for index in range(5)]
    )
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        file = Path(folder + CLASSIFY)
        file.parent.mkdir()
        file.write_bytes(_framed(answer.SerializeToString()))
        port = free.getsockname()[1]
        free.close()
        words = ["nghttpd", "--no-tls", "-d", folder, "--trailer=grpc-status: 0", str(port)]
        with subprocess.Popen(["taskset", "-c", SERVER_PROCESSOR, *words]) as process:
            time.sleep(1)
            found = _bench(f"127.0.0.1:{port}", arguments)
            process.terminate()
    return found


def _framed(message: bytes) -> bytes:
    """A message as gRPC sends it: not compressed, then its length, then itself."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _h2load(address: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Answers a second and the mean latency in milliseconds, as h2load counts them."""
    message = picture_target([arguments.picture.read_bytes()], "", "").requests[0]
    with tempfile.NamedTemporaryFile() as body:
        body.write(_framed(message))
        body.flush()
        words = [
            "h2load",
            "-c1",
            f"-m{arguments.concurrency}",
            f"-D{arguments.seconds}",
            "-d",
            body.name,
        ]
        words += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        said = _run([*words, f"http://{address}{CLASSIFY}"])
    rate = re.search(r"([\d.]+) req/s", said)
    mean = re.search(r"time for request: +\S+ +\S+ +([\d.]+)(us|ms|s) ", said)
    assert rate is not None
    assert mean is not None
    mean_ms = float(mean[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[mean[2]]
    return {"answers_per_second": float(rate[1]), "mean_ms": mean_ms}


def _bench(address: str, arguments: argparse.Namespace) -> dict[str, float]:
    """The same, as `convlens bench` counts them, and what each request costs it."""
    words = [sys.executable, "-m", "convlens.cli", "bench", "--address", address, "--json"]
    words += ["--pictures", str(arguments.picture), "--concurrency", str(arguments.concurrency)]
    said = _run([*words, "--duration", str(arguments.seconds), "--warmup", "0"])
    load = json.loads(said)["loads"][0]
    return {
        "answers_per_second": load["answers_per_second"],
        "mean_ms": load["latency_ms"]["mean"],
        "client_cpu_us": load["client_cpu_us"],
    }


def _run(words: list[str]) -> str:
    done = subprocess.run(
        ["taskset", "-c", CLIENT_PROCESSOR, *words], capture_output=True, text=True, check=True
    )
    return done.stdout


if __name__ == "__main__":
    main()
