"""What tuning found out, as a report shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from convlens.server.agreement import Agreement
from convlens.server.plan import Plan
from convlens.server.tuned_file import Tuned


@dataclass(frozen=True)
class Row:
    """One way to run a model, measured.

    Attributes:
        file: of the model.
        precision: of the weights, or of the arithmetic where that is less.
        plan: its `max_batch_size` is the size of the batches that were run.
        images_per_second: of all instances together, the median of the rounds.
        pictures_per_second: the same, decoded by the processors that run them; None where that was
            not measured.
        batch_seconds: of one run while the other instances run too, likewise.
        processor_seconds: that one image of such a batch takes of all processors together.
        fraction_of_peak: of the rate at which the machine multiplies matrices in that precision;
            None where that was not measured.
        agreement: with fp32 on the CPU.
        rounds: how often it was measured.
    """

    file: Path
    precision: str
    plan: Plan
    images_per_second: float
    pictures_per_second: float | None
    batch_seconds: float
    processor_seconds: float
    fraction_of_peak: float | None
    agreement: Agreement
    rounds: int


@dataclass(frozen=True)
class Refusal:
    """A way to run a model that is out, or could not be looked at, and why."""

    file: Path
    plan: Plan
    reason: str


@dataclass(frozen=True)
class Approximation:
    """What `--approximate-decoding` would change, for the way that was the fastest.

    Attributes:
        agreement: of the answers with those to the exact pixels, in fp32 on the CPU.
        exact_per_second: pictures decoded and run.
        approximate_per_second: the same with it.
    """

    agreement: Agreement
    exact_per_second: float
    approximate_per_second: float


@dataclass(frozen=True)
class Tuning:
    """What was found out.

    Attributes:
        rows: by file, then the fastest first.
        refusals: what is not among the rows.
        trial: what the agreement was measured on.
        peaks: floating-point operations a second, by precision.
        tuned: for each file, the plans that were the best and were written beside it.
        approximation: None where there were no pictures of the user's.
    """

    rows: tuple[Row, ...]
    refusals: tuple[Refusal, ...]
    trial: str
    peaks: Mapping[str, float]
    tuned: Mapping[Path, Tuned]
    approximation: Approximation | None = None
