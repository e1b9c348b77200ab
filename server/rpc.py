"""What a servicer reads and writes beside a message: the deadline, and trailers of the cost."""

import math
import time
from typing import Any

from convlens.server.model import Model
from convlens.server.statistics import Timing, microseconds


def deadline_of(context: Any, timeout_seconds: float = math.inf) -> float:
    """A call's deadline as of `time.monotonic`; infinite where it has none.

    Args:
        context: of the call.
        timeout_seconds: that the message itself asks for; the sooner of both counts.
    """
    remaining = context.time_remaining()
    return time.monotonic() + min(timeout_seconds, math.inf if remaining is None else remaining)


def cost_trailers(timing: Timing, model: Model) -> tuple[tuple[str, str], ...]:
    """The trailers that tell what an answer cost and where the weights are from."""
    return (
        ("convlens-decode-us", str(microseconds(timing.decode_seconds))),
        ("convlens-queue-us", str(microseconds(timing.queue_seconds))),
        ("convlens-infer-us", str(microseconds(timing.infer_seconds))),
        ("convlens-total-us", str(microseconds(timing.total_seconds))),
        ("convlens-batch-size", str(timing.batch_size)),
        ("convlens-weights-origin", model.card.weights_origin),
    )
