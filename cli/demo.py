"""`convlens demo`: the whole way through the house, on the bundled model and pictures."""

import argparse
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from convlens.analysis import analyze
from convlens.analysis.render_text import plain, report_text
from convlens.cli.errors import CommandError
from convlens.client import Classification, Client, ClientError
from convlens.server.configuration import PREFIX
from convlens.server.settings import BUNDLED_MODELS

DIGITS = BUNDLED_MODELS.parent / "digits"
STOP_SECONDS = 60.0
DASHBOARD_METRICS = (
    "grpc_server_handled_total",
    "convlens_stage_seconds_sum",
    "convlens_stage_seconds_count",
    "convlens_batch_size_sum",
    "convlens_queue_length",
    "convlens_in_flight",
    "convlens_model_info",
)


@dataclass(frozen=True)
class Answer:
    """One picture, what it shows, what the server said, and how long the client waited."""

    picture: Path
    true_label: str
    classification: Classification
    seconds: float

    @property
    def right(self) -> bool:
        """Whether the most probable label is the true one."""
        return self.classification.predictions[0].label == self.true_label


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The demo takes no arguments."""


def run(_: argparse.Namespace) -> int:
    """Serve, classify, measure, analyse; done only if every answer was right."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    pictures = sorted(DIGITS.glob("*.png"))
    with _server() as (address, metrics_url):
        console.print(f"\n== {len(pictures)} pictures of digits for the bundled model on {address}")
        answers = _classify(address, pictures)
        # Our own server's page, which a proxy that the environment names could not reach.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(metrics_url) as page:
            metrics = page.read().decode()
    console.print(_answers_table(answers))
    console.print(_latency_line([answer.seconds for answer in answers]))
    console.print("\n== what the model is made of (analyze lenet5.onnx)")
    report = report_text(analyze(BUNDLED_MODELS / "lenet5.onnx"))
    console.print(report if console.is_terminal else plain(report))
    console.print(f"\n== what a dashboard reads ({metrics_url})")
    for line in metrics.splitlines():
        if line.startswith(DASHBOARD_METRICS) and not line.endswith(" 0.0"):
            print(line)
    wrong = [answer.picture.name for answer in answers if not answer.right]
    if wrong:
        raise CommandError(f"{len(wrong)} of {len(answers)} answers were wrong: {', '.join(wrong)}")
    console.print(f"\ndemo: passed: {len(answers)} of {len(answers)} answers were right")
    return 0


@contextmanager
def _server() -> Iterator[tuple[str, str]]:
    """Start the server as a process of its own on free ports, and stop it cleanly.

    Yields:
        The gRPC address and the URL of /metrics.
    """
    command = (sys.executable, "-m", "convlens.cli", "serve", "--port", "0")
    # The settings of another server, as of the compose file, are not those of this one.
    others = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
    process = subprocess.Popen(
        (*command, "--metrics-port", "0", "--provider", "cpu"),
        stdout=subprocess.PIPE,
        text=True,
        env=others,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.startswith("serving "):
            raise CommandError("the server did not start; its own message stands above")
        words = line.split()
        yield words[words.index("on") + 1].rstrip(","), words[-1]
    finally:
        process.terminate()
        exit_code = process.wait(STOP_SECONDS)
    if exit_code != 0:
        raise CommandError(f"the server stopped with exit code {exit_code}")


def _classify(address: str, pictures: Sequence[Path]) -> list[Answer]:
    answers = []
    with Client(address) as client:
        for picture in pictures:
            start = time.perf_counter()
            try:
                classification = client.classify(picture, top_k=1)
            except ClientError as error:
                raise CommandError(f"{picture.name}: {error}") from error
            seconds = time.perf_counter() - start
            answers.append(Answer(picture, picture.name.split("-")[0], classification, seconds))
    return answers


def _answers_table(answers: Sequence[Answer]) -> Table:
    table = Table("picture", "true label", "predicted", "probability", "latency", box=None)
    for answer in answers:
        best = answer.classification.predictions[0]
        table.add_row(
            answer.picture.name,
            answer.true_label,
            best.label if answer.right else f"[red]{best.label}[/red]",
            f"{best.probability:.2%}",
            f"{answer.seconds * 1e3:.2f} ms",
        )
    return table


def _latency_line(seconds: Sequence[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    p50, p95, p99 = (cuts[percent - 1] * 1e3 for percent in (50, 95, 99))
    return (
        f"latency of one picture, client to client: p50 {p50:.2f} ms, p95 {p95:.2f}, p99 {p99:.2f}"
    )
