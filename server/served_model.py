"""One model being served: from a picture's bytes to its predictions, each stage timed."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from convlens.analysis.card import Preprocessing
from convlens.server.batcher import Batcher
from convlens.server.errors import (
    DeadlineExceededError,
    InvalidPictureError,
    InvalidRequestError,
    ModelRetiredError,
    OverloadedError,
)
from convlens.server.metrics import Metrics
from convlens.server.model import Model
from convlens.server.picture import FloatArray, to_input
from convlens.server.predictions import Prediction, top_k
from convlens.server.settings import Settings


@dataclass(frozen=True)
class Timing:
    """Where the time of one picture went; `infer_seconds` is its whole batch's run."""

    decode_seconds: float
    queue_seconds: float
    infer_seconds: float
    total_seconds: float
    batch_size: int


@dataclass(frozen=True)
class Classification:
    """The answer to one picture."""

    predictions: tuple[Prediction, ...]
    model: Model
    timing: Timing


@dataclass(frozen=True)
class _Decoded:
    tensor: FloatArray
    wait_seconds: float
    seconds: float


class ServedModel:
    """A model with its batcher, its bound on what may be in flight, and its metrics.

    Args:
        model: loaded and checked.
        decoders: the threads that turn bytes into inputs; shared by all models.
        metrics: of the server.
        settings: of the server.
    """

    def __init__(
        self, model: Model, decoders: ThreadPoolExecutor, metrics: Metrics, settings: Settings
    ) -> None:
        self.model = model
        self._decoders = decoders
        self._settings = settings
        self._places = asyncio.Semaphore(settings.queue_size)
        self._picture_seconds = 0.0
        self._closing = False
        self._batcher = Batcher(model.run, settings.max_batch_size, self._learn)
        self._metrics = metrics.add_model(
            model.name,
            model.version,
            provider=model.provider,
            precision=model.card.precision,
            sha256=model.sha256,
            load_seconds=model.load_seconds,
            queue_length=lambda: len(self._batcher),
        )

    async def classify(
        self, image: bytes, k: int, deadline: float, *, wait_for_place: bool
    ) -> Classification:
        """Decode, batch, run, and pick the most probable classes.

        Args:
            image: an encoded picture.
            k: how many predictions; see `top_k`.
            deadline: as of `time.monotonic`; infinite for none.
            wait_for_place: whether to wait where the queue is full, rather than be refused.

        Raises:
            InvalidRequestError: the model takes no pictures.
            InvalidPictureError: the picture cannot be used.
            OverloadedError: the queue is full.
            ModelRetiredError: the model was closed while the picture waited for its place.
            DeadlineExceededError: the deadline passed before the work began.
        """
        preprocessing = self.model.card.preprocessing
        if preprocessing is None:
            raise InvalidRequestError(
                f"model {self.model.name!r} takes tensors, not pictures: "
                "its file carries no convlens.preprocessing"
            )
        with self._counted():
            if self._places.locked() and not wait_for_place:
                raise OverloadedError(
                    f"{self._settings.queue_size} pictures are in flight for model "
                    f"{self.model.name!r}: try again later",
                    retry_after_seconds=self._settings.queue_size * self._picture_seconds,
                )
            async with self._places:
                if self._closing:
                    raise ModelRetiredError(f"model {self.model.name!r} is being unloaded")
                with self._metrics.in_flight.track_inprogress():
                    return await self._classify(image, preprocessing, k, deadline)

    async def close(self) -> None:
        """Answer what is in flight, refuse the rest, then free the batcher's thread."""
        self._closing = True
        for _ in range(self._settings.queue_size):
            await self._places.acquire()
        await self._batcher.close()
        for _ in range(self._settings.queue_size):  # whoever still waits for one is refused
            self._places.release()

    async def _classify(
        self, image: bytes, preprocessing: Preprocessing, k: int, deadline: float
    ) -> Classification:
        arrived = time.monotonic()
        decoded = await asyncio.get_running_loop().run_in_executor(
            self._decoders, self._decode, image, preprocessing, arrived, deadline
        )
        inferred = await self._batcher.submit(decoded.tensor, deadline)
        encode_start = time.monotonic()
        predictions = top_k(inferred.output, self.model.card, k)
        end = time.monotonic()
        timing = Timing(
            decode_seconds=decoded.seconds,
            queue_seconds=decoded.wait_seconds + inferred.queue_seconds,
            infer_seconds=inferred.infer_seconds,
            total_seconds=end - arrived,
            batch_size=inferred.batch_size,
        )
        self._observe(timing, end - encode_start, predictions[0].probability)
        return Classification(predictions, self.model, timing)

    def _decode(
        self, image: bytes, preprocessing: Preprocessing, arrived: float, deadline: float
    ) -> _Decoded:
        """Runs in a decoder thread; work that is too late already is not begun."""
        start = time.monotonic()
        if start >= deadline:
            raise DeadlineExceededError("the deadline passed before the picture was decoded")
        tensor = to_input(image, preprocessing, self._settings.max_pixels)
        return _Decoded(tensor, start - arrived, time.monotonic() - start)

    def _learn(self, batch_size: int, seconds: float) -> None:
        self._metrics.batch_size.observe(batch_size)
        per_picture = seconds / batch_size
        self._picture_seconds += (per_picture - self._picture_seconds) / 8

    def _observe(self, timing: Timing, encode_seconds: float, confidence: float) -> None:
        stages = self._metrics.stages
        stages["decode"].observe(timing.decode_seconds)
        stages["queue"].observe(timing.queue_seconds)
        stages["infer"].observe(timing.infer_seconds)
        stages["encode"].observe(encode_seconds)
        stages["total"].observe(timing.total_seconds)
        self._metrics.confidence.observe(confidence)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count the pictures that are not answered, by reason."""
        try:
            yield
        except OverloadedError:
            self._metrics.rejected("queue_full")
            raise
        except DeadlineExceededError:
            self._metrics.rejected("deadline")
            raise
        except InvalidPictureError:
            self._metrics.rejected("invalid_picture")
            raise
        except asyncio.CancelledError:
            self._metrics.rejected("cancelled")
            raise
