"""h2load as the one client: a closed loop, whose own processor time is measured."""

import re
import resource
import subprocess
import tempfile
from dataclasses import dataclass

from question import Question

IN_FLIGHT = 32
# A gRPC channel carries many calls, an HTTP/1.1 connection one.
GRPC_CONNECTIONS = 4
WARMUP_SECONDS = 1


@dataclass(frozen=True)
class Load:
    """What h2load counted.

    Attributes:
        per_second: good answers.
        mean_ms: latency.
        client_us: the client's processor time for one answer.
    """

    per_second: float
    mean_ms: float
    client_us: float


class BadAnswersError(Exception):
    """A server refused, failed, or answered less than it should."""


def measure(question: Question, port: int, seconds: int, answer_bytes: int) -> Load:
    """Ask again and again, with `IN_FLIGHT` requests under way.

    Args:
        question: that is asked.
        port: of the server on this machine.
        seconds: for how long, after `WARMUP_SECONDS` that are not counted.
        answer_bytes: of one good answer. A gRPC call that fails has status 200 and no body: h2load
            shows it in the sum of the bytes alone.

    Raises:
        BadAnswersError: not every answer was a good one.
    """
    with tempfile.NamedTemporaryFile() as body:
        body.write(question.wire_body)
        body.flush()
        words = ["h2load", f"-D{seconds}", f"--warm-up-time={WARMUP_SECONDS}", "-d", body.name]
        words += ["-H", f"content-type: {question.content_type}"]
        if question.grpc:
            words += ["-H", "te: trailers", f"-c{GRPC_CONNECTIONS}"]
            words += [f"-m{IN_FLIGHT // GRPC_CONNECTIONS}"]
        else:
            words += ["--h1", f"-c{IN_FLIGHT}", "-m1"]
        before = _processor_seconds()
        said = subprocess.run(
            [*words, f"http://127.0.0.1:{port}{question.path}"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        client_seconds = _processor_seconds() - before
    good = int(_found(r"status codes: (\d+) 2xx", said))
    failed = int(_found(r"(\d+) failed", said)) + sum(
        int(count) for count in re.findall(r"(\d+) [345]xx", said)
    )
    data_bytes = int(_found(r"space savings [\d.]+%\), [\d.]+\w+ \((\d+)\) data", said))
    if good == 0 or failed > 0 or data_bytes < 0.9 * good * answer_bytes:
        raise BadAnswersError(f"{good} good answers, {failed} failed, {data_bytes} bytes of data")
    timing = re.search(r"time for request: +\S+ +\S+ +([\d.]+)(us|ms|s) ", said)
    assert timing is not None
    mean, unit = timing.groups()
    return Load(
        per_second=good / seconds,
        mean_ms=float(mean) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit],
        client_us=1e6 * client_seconds / good,
    )


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise BadAnswersError(f"h2load said no {pattern!r}:\n{text}")
    return found[1]


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
