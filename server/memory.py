"""What a model takes in memory, how memory is given back, and what is kept for good."""

import ctypes
import gc
import sys
from pathlib import Path

from convlens.analysis import analyze
from convlens.analysis.errors import AnalysisError
from convlens.server.plan import Plan
from convlens.server.providers.openvino import copies

# By other providers: the weights as they were read, as they were optimised, and packed for the
# kernels. `bench/memory.py` compares the estimate with what is measured.
COPIES_OF_THE_WEIGHTS = 3.5
# By the CPU provider: its sessions map the kept weights, and share them.
COPIES_OF_MAPPED_WEIGHTS = 1.5
# A runtime asks for memory in larger pieces than it needs.
ARENA = 1.25
# Of a session that has next to no weights.
EMPTY_SESSION_BYTES = 2 * 2**20
HEAPS = 2
_M_ARENA_MAX = -8  # of malloc.h


def session_bytes(path: Path, plan: Plan) -> int:
    """Estimate what a session takes once as many of its largest batches ran as may at a time.

    The estimate is made of the graph, before anything is loaded: the process's size before and
    after says little, as memory that was freed is used again. A runtime keeps the memory of the
    largest batch that it has run, each session of an elastic plan its own. Runs at the same time
    share the weights, and nothing else; small models on OpenVINO not even these.

    Args:
        path: of the model.
        plan: by which it is run.
    """
    count = COPIES_OF_MAPPED_WEIGHTS if plan.provider == "cpu" else COPIES_OF_THE_WEIGHTS
    try:
        report = analyze(path)
    except AnalysisError:  # the runtime may still load it, or will say why not
        return EMPTY_SESSION_BYTES + round(count * path.stat().st_size)
    batch_is_fixed = any(
        isinstance(length, int) for tensor in report.inputs for length in (tensor.shape or ())[:1]
    )
    runs = sum(plan.processors // width for width in plan.widths)
    rows = runs * (1 if batch_is_fixed else plan.max_batch_size)
    activations = round(ARENA * rows * (report.totals.peak_activation_bytes or 0))
    if plan.provider == "openvino":
        count += copies(report.totals.weight_bytes, plan) - 1
    return EMPTY_SESSION_BYTES + round(count * report.totals.weight_bytes) + activations


def share_heaps() -> None:
    """Have all threads allocate from few heaps; called before there are threads.

    glibc gives each thread one of its own, up to eight a processor, and never takes back what lies
    between two things that are still used: each model that came and went left 150 KB.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_M_ARENA_MAX, HEAPS)


def keep_imports() -> None:
    """Have the garbage collector pass over all that there is; called before models are loaded.

    What was imported never becomes garbage, and looking through it for some halts the event loop
    for 50 ms each time.
    """
    gc.collect()
    gc.freeze()


def give_back_memory() -> None:
    """Return what was freed to the operating system.

    A model and its batcher refer to each other: they are freed by the collector. glibc keeps freed
    memory for itself, a quarter to a half of a model's, unless it is told not to.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
