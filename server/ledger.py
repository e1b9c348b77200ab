"""What became of a model's requests: counted for Prometheus and for the protocol's statistics."""

import asyncio
import time
from collections.abc import Callable

from convlens.server.errors import (
    ClientLimitError,
    DeadlineExceededError,
    InvalidPictureError,
    InvalidRequestError,
    InvalidTensorError,
    OverloadedError,
)
from convlens.server.metrics import Metrics
from convlens.server.model import Model
from convlens.server.statistics import Statistics, Timing

REJECTIONS: dict[type[BaseException], str] = {
    OverloadedError: "queue_full",
    ClientLimitError: "client_limit",
    DeadlineExceededError: "deadline",
    InvalidPictureError: "invalid_picture",
    InvalidTensorError: "invalid_tensor",
    InvalidRequestError: "invalid_request",
    asyncio.CancelledError: "cancelled",
}


class Ledger:
    """The counters of one version of a model.

    Args:
        model: whose they are.
        metrics: of the server.
        queue_length: is asked at each scrape.
        in_flight: likewise.

    Attributes:
        statistics: since the model was loaded.
    """

    def __init__(
        self,
        model: Model,
        metrics: Metrics,
        *,
        queue_length: Callable[[], float],
        in_flight: Callable[[], float],
    ) -> None:
        self.statistics = Statistics()
        self._metrics = metrics.add_model(
            model.name,
            model.version,
            provider=model.provider,
            precision=model.precision,
            sha256=model.sha256,
            load_seconds=model.load_seconds,
            queue_length=queue_length,
            in_flight=in_flight,
        )

    def not_answered(self, error: BaseException, start: float) -> None:
        """Count a request that came in at `start`, as of `time.monotonic`, by its error."""
        self.statistics.fail.add(time.monotonic() - start)
        if type(error) in REJECTIONS:
            self._metrics.rejected(REJECTIONS[type(error)])

    def decoded(self, seconds: float, rows: int) -> None:
        """Count pictures that became inputs in so much time together."""
        self._metrics.stages["decode"].observe(seconds / rows, rows)

    def ran(self, batch_size: int, seconds: float) -> None:
        """Count a run."""
        self._metrics.batch_size.observe(batch_size)
        self.statistics.ran(batch_size, seconds)

    def answered(self, timing: Timing, rows: int) -> None:
        """Count a request that was answered."""
        stages = self._metrics.stages
        stages["queue"].observe(timing.queue_seconds, rows)
        stages["infer"].observe(timing.infer_seconds, rows)
        stages["encode"].observe(timing.encode_seconds, rows)
        stages["total"].observe(timing.total_seconds, rows)
        self.statistics.answered(timing)

    def confident(self, probability: float) -> None:
        """Count a picture by the probability of its first prediction."""
        self._metrics.confidence.observe(probability)
