"""What one version of a model has served since it was loaded."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass
class Duration:
    """How often something was done, and how long it took together."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.seconds += seconds


class Timing(NamedTuple):
    """Where the time of one request went.

    Attributes:
        decode_seconds: pictures became inputs: all that ran together, or of those that ran apart
            the one that took longest.
        queue_seconds: waiting for a thread and for a batch.
        infer_seconds: the run of the whole batch.
        encode_seconds: outputs became an answer.
        total_seconds: from its place in the queue to its answer.
        batch_size: how many rows shared the run.
    """

    decode_seconds: float
    queue_seconds: float
    infer_seconds: float
    encode_seconds: float
    total_seconds: float
    batch_size: int


@dataclass
class Statistics:
    """Counters that only grow.

    Attributes:
        success: requests answered, and their whole time; the four after it are parts of it.
        decode: see `Timing`; likewise `queue`, `infer` and `encode`.
        fail: requests refused, dropped or failed.
        rows: of all runs together.
        batches: runs, by batch size.
        last_run_seconds: when the last run ended, since 1970; 0 before the first one.
    """

    success: Duration = field(default_factory=Duration)
    decode: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    infer: Duration = field(default_factory=Duration)
    encode: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    rows: int = 0
    batches: dict[int, Duration] = field(default_factory=dict)
    last_run_seconds: float = 0.0

    def answered(self, timing: Timing) -> None:
        """Count a request that was answered."""
        self.success.add(timing.total_seconds)
        self.decode.add(timing.decode_seconds)
        self.queue.add(timing.queue_seconds)
        self.infer.add(timing.infer_seconds)
        self.encode.add(timing.encode_seconds)

    def ran(self, batch_size: int, seconds: float) -> None:
        """Count a run."""
        self.rows += batch_size
        self.batches.setdefault(batch_size, Duration()).add(seconds)
        self.last_run_seconds = time.time()


def microseconds(seconds: float) -> int:
    """Rounded to the nearest."""
    return round(seconds * 1e6)
