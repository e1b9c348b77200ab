"""What a load generator has measured."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from convlens.client.histogram import Histogram

PERCENTS = (50, 90, 95, 99, 99.9)
# Of the trailers that hold what a request cost the server.
PREFIX, SUFFIX = "convlens-", "-us"


@dataclass
class Tally:
    """What became of the requests of one job.

    Attributes:
        deadline_seconds: by which an answer is good.
        latency: by the name of the status code.
        good: answers within the deadline.
        behind: how much later than meant the generator sent, in an open loop.
        seconds: that were measured.
        cpu_seconds: of this process in that time.
        stage_us: sums over the answers of which the server's own times were looked at, by stage.
        looked_at: how many those are.
    """

    deadline_seconds: float
    latency: dict[str, Histogram] = field(default_factory=dict)
    good: int = 0
    behind: Histogram = field(default_factory=Histogram)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    stage_us: Counter[str] = field(default_factory=Counter)
    looked_at: int = 0

    def record(self, code: str, seconds: float) -> None:
        """Count one request."""
        self.latency.setdefault(code, Histogram()).record(seconds)
        self.good += code == "OK" and seconds <= self.deadline_seconds

    def add(self, other: "Tally") -> None:
        """Count what another process has counted in the same time."""
        for code, histogram in other.latency.items():
            self.latency.setdefault(code, Histogram()).add(histogram)
        self.good += other.good
        self.behind.add(other.behind)
        self.seconds = max(self.seconds, other.seconds)
        self.cpu_seconds += other.cpu_seconds
        self.stage_us.update(other.stage_us)
        self.looked_at += other.looked_at

    def look_at(self, trailers: Iterable[tuple[str, str | bytes]]) -> None:
        """Take the server's own times from an answer's trailers; others than ours send none."""
        found = {
            key.removeprefix(PREFIX).removesuffix(SUFFIX): int(value)
            for key, value in trailers
            if key.startswith(PREFIX) and key.endswith(SUFFIX)
        }
        self.stage_us.update(found)
        self.looked_at += bool(found)

    @property
    def requests(self) -> int:
        """All of them, whatever became of them."""
        return sum(histogram.count for histogram in self.latency.values())

    @property
    def answers(self) -> Histogram:
        """The latency of those that were answered."""
        return self.latency.get("OK", Histogram())

    @property
    def answers_per_second(self) -> float:
        """Throughput: answers, whether or not within the deadline."""
        return self.answers.count / self.seconds if self.seconds else 0.0

    @property
    def good_per_second(self) -> float:
        """Goodput: answers within the deadline."""
        return self.good / self.seconds if self.seconds else 0.0

    @property
    def errors(self) -> dict[str, Histogram]:
        """The latency of those that failed, by the name of the status code."""
        return {code: self.latency[code] for code in sorted(self.latency) if code != "OK"}

    @property
    def client_cpu_us(self) -> float:
        """The processor time that one request cost the generator, in microseconds."""
        return 1e6 * self.cpu_seconds / self.requests if self.requests else 0.0

    @property
    def client_cores(self) -> float:
        """How many processors the generator kept busy."""
        return self.cpu_seconds / self.seconds if self.seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """All of it, in milliseconds and rounded to what is known."""
        return {
            "seconds": round(self.seconds, 3),
            "requests": self.requests,
            "answers_per_second": round(self.answers_per_second, 1),
            "good_per_second": round(self.good_per_second, 1),
            "latency_ms": _summary(self.answers),
            "server_mean_ms": {
                stage: round(total / self.looked_at / 1e3, 3)
                for stage, total in self.stage_us.items()
            },
            "errors": {
                code: {"count": histogram.count, "latency_ms": _summary(histogram)}
                for code, histogram in self.errors.items()
            },
            "behind_ms": _summary(self.behind) if self.behind.count else None,
            "client_cpu_us": round(self.client_cpu_us, 1),
            "client_cores": round(self.client_cores, 3),
        }


def _summary(histogram: Histogram) -> dict[str, float]:
    percentiles = {f"p{percent:g}": histogram.percentile_seconds(percent) for percent in PERCENTS}
    exact = {"mean": histogram.mean_seconds, "max": histogram.longest_seconds}
    return {name: round(1e3 * seconds, 3) for name, seconds in (percentiles | exact).items()}
