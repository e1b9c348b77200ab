"""How a model is run: decided once, before it is loaded."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from convlens.server.run_count import RunCount

Precision = Literal["fp32", "bf16", "fp16"]
ConvolutionSearch = Literal["exhaustive", "heuristic", "default"]

# Those that compute on the processors, and those of them whose sessions share their weights.
PROCESSOR_PROVIDERS = ("cpu", "openvino")
ELASTIC_PROVIDERS = ("cpu",)
# Of a run on one processor. Networks that read many weights for little arithmetic gain by these,
# and by more; what others keep in the cache between two layers does not fit any more: in a server
# EfficientNet-B0 took a tenth more with 8. `convlens tune` finds what is best for a network.
PROCESSOR_ROWS = 4


@dataclass(frozen=True)
class Plan:
    """How the runs of one model are made.

    Attributes:
        provider: that computes: a key of `providers.PROVIDERS`.
        precision: of the arithmetic, whatever the weights are stored in.
        threads: that one run is spread over.
        instances: how many runs go on at the same time.
        max_batch_size: the most rows that share one run.
        elastic: whether a run has the threads of those that are not under way as well.
    """

    provider: str = "cpu"
    precision: Precision = "fp32"
    threads: int = 1
    instances: int = 1
    max_batch_size: int = 16
    elastic: bool = False

    @property
    def widths(self) -> list[int]:
        """How many threads a run may have: elastic ones have all, a half, and so on."""
        halves = [self.processors >> halvings for halvings in range(self.processors.bit_length())]
        wider = [width for width in halves if self.elastic and width > self.threads]
        return [*wider, self.threads]

    @property
    def processors(self) -> int:
        """How many threads all runs together are spread over."""
        return self.instances * self.threads

    def __str__(self) -> str:
        """As a log says it."""
        return self.described(self.precision)

    def described(self, precision: str) -> str:
        """The same, of a file whose weights are in that precision."""
        alone = f" (a lone run: {self.processors})" if self.elastic else ""
        return (
            f"{self.provider} {precision}, {self.instances} x {self.threads} threads{alone}, "
            f"batches of up to {self.max_batch_size}"
        )


def default_plan(provider: str, precision: Precision, processors: int, max_batch_size: int) -> Plan:
    """How a model is run that was not tuned.

    On processors a lone run gets all threads and many get one each, which no network was found to
    lose by (`bench/arrangements.py`), in small batches; on a GPU runs would wait for each other.

    Args:
        provider: that computes.
        precision: of the arithmetic.
        processors: for all runs together.
        max_batch_size: the most rows that share one run.
    """
    if provider in ELASTIC_PROVIDERS and processors > 1:
        rows = min(max_batch_size, PROCESSOR_ROWS)
        return Plan(provider, precision, 1, processors, rows, elastic=True)
    return Plan(provider, precision, processors, 1, max_batch_size)


@dataclass(frozen=True)
class Gpu:
    """What an NVIDIA GPU may do; ignored elsewhere.

    Attributes:
        device: its number.
        memory_bytes: that a model's arena may take; 0: no bound.
        tf32: whether fp32 products may be rounded to TensorFloat-32.
        convolution_search: how cuDNN's algorithms are chosen; exhaustive measures them.
        graphs: whether runs are recorded once for each batch size, then replayed.
    """

    device: int = 0
    memory_bytes: int = 0
    tf32: bool = False
    convolution_search: ConvolutionSearch = "exhaustive"
    graphs: bool = False


@dataclass(frozen=True)
class Machine:
    """What all models of a process share.

    Attributes:
        cache: folder of what providers make of models, to start faster the next time; None: none.
        gpu: what an NVIDIA GPU may do.
        runs: that are under way, of all models.
    """

    cache: Path | None = None
    gpu: Gpu = Gpu()
    runs: RunCount = field(default_factory=RunCount, compare=False)
