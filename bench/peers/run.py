"""Our server beside what a user would write or install instead, in one run on one machine.

Every server answers the same requests for the same ONNX file. All stay loaded, one at a time runs,
the others are suspended; rounds alternate between them and medians are reported.

    apt-get install nghttp2-client
    python bench/peers/run.py
"""

import argparse
import json
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import contestants
import grpc
import material
from contestants import PEERS
from load import IN_FLIGHT, WARMUP_SECONDS, BadAnswersError, measure
from processes import Processes
from question import Question, ask, top_1
from report import machine, summary, table

RESULT = material.RESULTS / "peers.json"
MODELS = ("resnet50", "efficientnet_b0", "lenet5")
START_SECONDS = 120
# PyTriton's parts sometimes miss each other while they start, and it ends.
START_ATTEMPTS = 3
# Before a server is suspended for the first time: each of its workers has run then.
WARMUP_ANSWERS = 4


@dataclass(frozen=True)
class Contestant:
    """One server, not yet started.

    Attributes:
        name: in the table.
        question: that it is asked.
        start: starts it on a port.
        setting: in words.
    """

    name: str
    question: Question
    start: Callable[[int], Processes]
    setting: str


@dataclass(frozen=True)
class Running:
    """One server that has answered."""

    contestant: Contestant
    processes: Processes
    port: int
    answer: bytes

    def round(self, seconds: int) -> dict[str, float]:
        """Resume it, load it, let it finish what it was asked, suspend it."""
        self.processes.resume()
        before = self.processes.processor_seconds()
        load = measure(self.contestant.question, self.port, seconds, len(self.answer))
        ask(self.contestant.question, self.port)
        spent = self.processes.processor_seconds() - before
        self.processes.suspend()
        answers = load.per_second * (seconds + WARMUP_SECONDS)
        return asdict(load) | {"server_us": 1e6 * spent / answers}


def main() -> None:
    """Install, measure, print and write."""
    arguments = _arguments()
    if shutil.which("h2load") is None:
        sys.exit("bench/peers/run.py needs h2load: apt-get install nghttp2-client")
    skipped = {
        peer.name: contestants.install(peer) for peer in PEERS if peer.name in arguments.peers
    }
    for name, reason in skipped.items():
        if reason is not None:
            print(f"skipped: {name}: {reason}", file=sys.stderr)
    shutil.rmtree(contestants.FOLDER / "work", ignore_errors=True)
    # Ended like this, too, no suspended server is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    result: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine(),
        "in_flight": IN_FLIGHT,
        "skipped": {name: reason for name, reason in skipped.items() if reason is not None},
        "models": [],
    }
    for name in arguments.models:
        path = material.model_file(name)
        material.tune(path, arguments.tune)
        found = _measure(_field(arguments, path, result["skipped"]), arguments)
        result["models"].append({"model": name} | found)
        print(table(result["models"][-1]), flush=True)
        RESULT.write_text(json.dumps(result, indent=2) + "\n")


def _field(arguments: argparse.Namespace, path: Path, skipped: dict[str, str]) -> list[Contestant]:
    """Ours first, then the peers; with `--explore` each of a peer's settings."""
    name = path.stem
    ours = contestants.our_servers(name)
    if arguments.ours_flags:
        ours["convlens-flags"] = tuple(shlex.split(arguments.ours_flags))
    field = [
        Contestant(
            label,
            contestants.our_question(name),
            partial(contestants.start_ours, label, flags, path),
            contestants.our_setting(flags, path),
        )
        for label, flags in ours.items()
    ]
    for peer in PEERS:
        if peer.name not in arguments.peers or peer.name in skipped:
            continue
        settings = peer.tensors if name in material.TENSOR_MODELS else peer.pictures
        for number, setting in enumerate(settings if arguments.explore else settings[:1]):
            field.append(
                Contestant(
                    peer.name + (f"-{number}" if arguments.explore else ""),
                    contestants.peer_question(peer, name),
                    partial(contestants.start_peer, peer, setting, path),
                    f"{setting.workers} x {setting.threads} threads, batches of up to "
                    f"{setting.max_batch}",
                )
            )
    return field


def _measure(field: list[Contestant], arguments: argparse.Namespace) -> dict[str, Any]:
    """Start everyone, take turns, stop everyone."""
    rounds: dict[str, list[dict[str, float]]] = {}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        running = _all_started(field, stack, failed)
        for number in range(arguments.rounds):
            turn = number % len(running)
            for server in running[turn:] + running[:turn]:
                name = server.contestant.name
                if name in failed:
                    continue
                try:
                    figures = server.round(arguments.seconds)
                except (BadAnswersError, grpc.RpcError, OSError) as error:
                    failed[name] = str(error)
                    print(f"left out: {name}: {error}", file=sys.stderr)
                    continue
                rounds.setdefault(name, []).append(figures)
                print(f"round {number + 1}: {name}: {figures['per_second']:.1f}/s", file=sys.stderr)
    return {"failed": failed} | summary(
        {it.name: it.setting for it in field if it.name not in failed}, rounds
    )


def _all_started(
    field: list[Contestant], stack: ExitStack, failed: dict[str, str]
) -> list[Running]:
    """Those that answer as the first, which is ours on the CPU provider in fp32, does."""
    running: list[Running] = []
    for contestant in field:
        try:
            server = _started(contestant, stack, START_ATTEMPTS)
            found = top_1(contestant.question, server.answer)
            expected = (
                top_1(running[0].contestant.question, running[0].answer) if running else found
            )
            if found != expected:
                raise BadAnswersError(f"says {found} where {field[0].name} says {expected}")
            running.append(server)
        except BadAnswersError as error:
            failed[contestant.name] = str(error)
            print(f"left out: {contestant.name}: {error}", file=sys.stderr)
    return running


def _started(contestant: Contestant, stack: ExitStack, attempts: int) -> Running:
    """Wait until it answers, warm it up, suspend it; one that ended meanwhile is started again."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    processes = contestant.start(port)
    stack.callback(processes.stop)
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            answer = ask(contestant.question, port)
            break
        except (OSError, grpc.RpcError) as error:
            if processes.ended and attempts > 1:
                return _started(contestant, stack, attempts - 1)
            if processes.ended or time.monotonic() > end:
                raise BadAnswersError(f"never answered: {error}") from error
            time.sleep(0.2)
    for _ in range(WARMUP_ANSWERS):
        ask(contestant.question, port)
    processes.suspend()
    return Running(contestant, processes, port, answer)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [peer.name for peer in PEERS]
    parser.add_argument("--models", nargs="+", default=MODELS, help=f"({' '.join(MODELS)})")
    parser.add_argument("--peers", nargs="*", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=3, help="of each server (3)")
    parser.add_argument("--seconds", type=int, default=4, help="of a round (4)")
    parser.add_argument(
        "--ours-flags", help="of `convlens serve`, measured as a third server of ours"
    )
    parser.add_argument("--explore", action="store_true", help="try every setting of the peers")
    parser.add_argument("--tune", action="store_true", help="tune our server anew")
    return parser.parse_args()


if __name__ == "__main__":
    main()
