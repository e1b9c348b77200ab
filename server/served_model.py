"""One model being served: from what a request brings to its answer, each stage timed."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from convlens.server.admission import Admission
from convlens.server.clients import Clients
from convlens.server.ledger import Ledger
from convlens.server.metrics import Metrics
from convlens.server.model import Model
from convlens.server.picture_tensor import PICTURES, read_pictures
from convlens.server.pipeline import Passed, Pipeline
from convlens.server.predictions import Prediction, top_k
from convlens.server.settings import Settings
from convlens.server.statistics import Statistics, Timing
from convlens.server.tensor import Array, Tensor
from convlens.server.turns import Turns

Answer = TypeVar("Answer")

Question = bytes | Mapping[str, Tensor]  # an encoded picture, or what `ServedModel.infer` takes


class Witness(Protocol):
    """Is shown what was answered, see `Trial.copy`."""

    def copy(
        self, question: Question, outputs: tuple[Array, ...], sha256: str, *, busy: bool
    ) -> None:
        """Take note of a question that was answered."""


class Classification(NamedTuple):
    """The answer to one picture."""

    predictions: tuple[Prediction, ...]
    model: Model
    timing: Timing


class ServedModel:
    """A model with its batcher, its bound on what may be in flight, and its metrics.

    Args:
        model: loaded and checked.
        decoders: the threads that turn bytes into inputs; shared by all models.
        clients: what each may have in flight; shared by all models.
        metrics: of the server.
        settings: of the server.
    """

    def __init__(
        self,
        model: Model,
        decoders: Turns,
        clients: Clients,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        self.model = model
        self.max_delay_seconds = settings.max_delay_ms / 1e3
        self.trial: Witness | None = None
        self._pipeline = Pipeline(
            model,
            decoders,
            settings,
            on_decoded=lambda seconds, rows: self._ledger.decoded(seconds, rows),
            on_batch=lambda rows, seconds: self._ledger.ran(rows, seconds),
        )
        self._admission = Admission(model.name, settings.queue_size, clients)
        # Last: it shows the others to whoever scrapes the metrics, in another thread.
        self._ledger = Ledger(
            model,
            metrics,
            queue_length=lambda: self._pipeline.waiting,
            in_flight=lambda: self.in_flight,
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
            DeadlineExceededError: the deadline passed before the work began, or cannot be met.
        """

        def encode(outputs: tuple[Array, ...]) -> tuple[Prediction, ...]:
            return top_k(outputs[0][0], self.model.card, k)

        start = time.monotonic()
        try:
            self._pipeline.check_takes_pictures()
            async with self._admission.admitted(1, deadline, wait_for_place=wait_for_place):
                passed = await self._pipeline.run_picture(image, deadline)
                predictions, timing = self._answer(image, passed, encode)
        except BaseException as error:
            self._ledger.not_answered(error, start)
            raise
        self._ledger.confident(predictions[0].probability)
        return Classification(predictions, self.model, timing)

    async def infer(
        self,
        tensors: Mapping[str, Tensor],
        encode: Callable[[tuple[Array, ...]], Answer],
        deadline: float,
        *,
        wait_for_place: bool,
    ) -> tuple[Answer, Timing]:
        """Batch and run the model's own inputs, or pictures in their place.

        Args:
            tensors: the model's inputs by name; or `PICTURES`, n encoded pictures.
            encode: makes the answer of the graph's outputs; timed as the stage of that name.
            deadline: as of `time.monotonic`; infinite for none.
            wait_for_place: whether to wait where the queue is full, rather than be refused.

        Raises:
            InvalidTensorError: a tensor is missing, unknown, or of another datatype or shape.
            InvalidPictureError: a picture cannot be used; the text has its index.
            InvalidRequestError: the model takes no pictures, or never so many rows.
            OverloadedError: the queue is full.
            ModelRetiredError: the model was closed while the request waited for its places.
            DeadlineExceededError: the deadline passed before the work began, or cannot be met.
        """
        start = time.monotonic()
        try:
            pictures = read_pictures(tensors, self.model.signature.inputs)
            if pictures is None:
                inputs, rows = self.model.signature.arrange(tensors)
                work = partial(self._pipeline.run_tensors, inputs, rows, deadline)
            else:
                self._pipeline.check_takes_pictures()
                rows = len(pictures)
                work = partial(self._pipeline.run_pictures, pictures, deadline)
            async with self._admission.admitted(rows, deadline, wait_for_place=wait_for_place):
                return self._answer(tensors, await work(), encode)
        except BaseException as error:
            self._ledger.not_answered(error, start)
            raise

    async def repeat(
        self,
        question: Question,
        encode: Callable[[tuple[Array, ...]], Answer],
        deadline: float,
    ) -> Answer:
        """Answer what another version has answered; see `infer`."""
        if isinstance(question, bytes):
            question = {PICTURES: Tensor("BYTES", np.array([question], object))}
        answer, _ = await self.infer(question, encode, deadline, wait_for_place=False)
        return answer

    @property
    def max_batch_size(self) -> int:
        """The most rows that share a run."""
        return self._pipeline.max_batch_size

    @property
    def statistics(self) -> Statistics:
        """What it has served since it was loaded."""
        return self._ledger.statistics

    @property
    def in_flight(self) -> int:
        """The rows that were accepted and are not answered yet."""
        return self._admission.in_flight

    async def close(self) -> None:
        """Answer what is in flight, refuse the rest, then free the batcher's thread."""
        await self._admission.close()
        await self._pipeline.close()

    def _answer(
        self, question: Question, passed: Passed, encode: Callable[[tuple[Array, ...]], Answer]
    ) -> tuple[Answer, Timing]:
        encode_start = time.monotonic()
        answer = encode(passed.outputs)
        end = time.monotonic()
        timing = Timing(
            decode_seconds=passed.decode_seconds,
            queue_seconds=passed.queue_seconds,
            infer_seconds=passed.infer_seconds,
            encode_seconds=end - encode_start,
            total_seconds=end - passed.arrived,
            batch_size=passed.batch_size,
        )
        self._ledger.answered(timing, passed.rows)
        if self.trial is not None:
            busy = self._admission.is_busy
            self.trial.copy(question, passed.outputs, self.model.sha256, busy=busy)
        return answer, timing
