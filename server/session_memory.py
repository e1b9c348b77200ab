"""What a session takes in memory."""

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
