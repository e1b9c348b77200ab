"""All architectures, one after the other: each in a process of its own, done ones skipped."""

import multiprocessing
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from convlens.analysis.card import ModelCard
from convlens.analysis.errors import AnalysisError
from convlens.analysis.model_file import read_metadata
from convlens.export.errors import ExportError
from convlens.export.exporter import ExportResult, GraphOptions, export_model
from convlens.export.weights import RANDOM

# ru_maxrss counts kibibytes, but on macOS bytes.
_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class ZooRequest:
    """What is asked of every architecture.

    Attributes:
        folder: where the files go, as `NAME.onnx`.
        weights: "default" or "random".
        seed: of the initialisation.
        options: what the graphs are to be like.
    """

    folder: Path
    weights: str
    seed: int
    options: GraphOptions


@dataclass(frozen=True)
class Measured:
    """An export that succeeded.

    Attributes:
        result: of the export.
        seconds: from the weights to the file.
        processor_seconds: of all its threads, which other work on the machine hardly changes.
        peak_bytes: the most memory that its process had at a time.
    """

    result: ExportResult
    seconds: float
    processor_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Outcome:
    """What became of one architecture.

    Attributes:
        name: of the architecture.
        measured: None where it failed, or was done before.
        failure: why it failed; None where it did not.
    """

    name: str
    measured: Measured | None = None
    failure: str | None = None


def export_all(
    names: Iterable[str], request: ZooRequest, started: Callable[[str], None] = lambda _name: None
) -> Iterator[Outcome]:
    """Export architectures one by one; a failure is an outcome, after which it goes on.

    Args:
        names: of the architectures.
        request: what is asked of each; a file in its folder that answers the same request,
            written by the same releases, is kept as it is.
        started: called with each name before its work begins.
    """
    for name in names:
        started(name)
        if _is_done(request.folder / f"{name}.onnx", name, request):
            yield Outcome(name)
        else:
            yield _export_apart(name, request)


def export_measured(name: str, request: ZooRequest) -> Measured:
    """Export one architecture in this process, which should have done nothing else yet."""
    start, processor_start = time.monotonic(), time.process_time()
    result = export_model(
        name,
        request.folder / f"{name}.onnx",
        weights=request.weights,
        seed=request.seed,
        options=request.options,
    )
    return Measured(
        result=result,
        seconds=time.monotonic() - start,
        processor_seconds=time.process_time() - processor_start,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT_BYTES,
    )


def _export_apart(name: str, request: ZooRequest) -> Outcome:
    """In a process of its own: its memory is given back, and it may be killed for it alone."""
    pool = ProcessPoolExecutor(
        1,
        mp_context=multiprocessing.get_context("spawn"),
        # Ctrl-C reaches it too: while it still imports, it dies of it without a traceback.
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_DFL),
    )
    with pool:
        try:
            return Outcome(name, pool.submit(_export_in_child, name, request).result())
        except ExportError as error:
            return Outcome(name, failure=str(error))
        except BrokenProcessPool:
            return Outcome(name, failure="its process was killed, most likely for lack of memory")
        except Exception as error:  # noqa: BLE001 - one of them stops none of the others
            return Outcome(name, failure=f"{type(error).__name__}: {error}")


def _export_in_child(name: str, request: ZooRequest) -> Measured:
    # From here on an interrupted export cleans up behind itself.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return export_measured(name, request)


def _is_done(path: Path, name: str, request: ZooRequest) -> bool:
    if not path.is_file():
        return False
    try:
        card = ModelCard.from_metadata(read_metadata(path))
    except AnalysisError:
        return False
    is_random = card.weights_origin == "random"
    return (
        card.model.get("name") == name
        and card.precision == "fp32"
        and is_random == (request.weights == RANDOM)
        and card.weights.get("seed", request.seed) == request.seed
        and all(card.export.get(key) == value for key, value in request.options.as_json().items())
        and all(card.export.get(package) == version(package) for package in ("convlens", "torch"))
    )
