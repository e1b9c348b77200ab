"""One model being served: from what a request brings to its answer, each stage timed."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from convlens.server.admission import Admission
from convlens.server.batch_time import BatchTime
from convlens.server.batcher import Batcher
from convlens.server.clients import Clients
from convlens.server.decoder import Decoded, Decoder
from convlens.server.errors import InvalidRequestError
from convlens.server.ledger import Ledger
from convlens.server.metrics import Metrics
from convlens.server.model import Model
from convlens.server.picture_tensor import PICTURES, read_pictures
from convlens.server.predictions import Prediction, top_k
from convlens.server.settings import Settings
from convlens.server.statistics import Statistics, Timing
from convlens.server.tensor import Array, Tensor
from convlens.server.turns import Turns
from convlens.server.waiting_line import Inferred

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


class _Prepared(NamedTuple):
    """What goes to the batcher, and the time that it took to get there."""

    inputs: tuple[Array, ...]
    rows: int
    arrived: float
    wait_seconds: float = 0.0
    decode_seconds: float = 0.0


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
        self.max_batch_size = model.plan.max_batch_size if model.signature.batched else 1
        self.max_delay_seconds = settings.max_delay_ms / 1e3
        preprocessing = model.card.preprocessing
        self._decoder = (
            Decoder(
                preprocessing,
                settings.max_pixels,
                decoders,
                normalised=model.signature.inputs[0].datatype != "UINT8",
                approximate=settings.approximate_decoding,
            )
            if preprocessing
            else None
        )
        self.trial: Witness | None = None
        self._batcher = Batcher(
            model.run,
            self.max_batch_size,
            lambda rows, seconds: self._ledger.ran(rows, seconds),
            batch_time=BatchTime(),
            max_delay_seconds=self.max_delay_seconds,
            instances=model.plan.instances,
        )
        self._admission = Admission(model.name, settings.queue_size, clients)
        # Last: it shows the others to whoever scrapes the metrics, in another thread.
        self._ledger = Ledger(
            model,
            metrics,
            queue_length=lambda: len(self._batcher),
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
            decoder = self._picture_decoder()
            async with self._admission.admitted(1, deadline, wait_for_place=wait_for_place):
                prepared, inferred = await self._decode_and_run(decoder, image, deadline)
                predictions, timing = self._answer(image, prepared, inferred, encode)
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
                async with self._admission.admitted(rows, deadline, wait_for_place=wait_for_place):
                    prepared = _Prepared(inputs, rows, time.monotonic())
                    inferred = await self._submit(prepared, deadline)
                    return self._answer(tensors, prepared, inferred, encode)
            decoder, rows = self._picture_decoder(), len(pictures)
            async with self._admission.admitted(rows, deadline, wait_for_place=wait_for_place):
                arrived = time.monotonic()
                decoded = await decoder.decode_all(pictures, arrived, deadline)
                prepared = self._prepared(decoded, arrived)
                inferred = await self._submit(prepared, deadline)
                return self._answer(tensors, prepared, inferred, encode)
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
        await self._batcher.close()

    def _picture_decoder(self) -> Decoder:
        if self._decoder is None:
            raise InvalidRequestError(
                f"model {self.model.name!r} takes tensors, not pictures: "
                "its file carries no convlens.preprocessing"
            )
        return self._decoder

    def _prepared(self, decoded: Decoded, arrived: float) -> _Prepared:
        rows = len(decoded.tensor)
        self._ledger.decoded(decoded.seconds, rows)
        return _Prepared((decoded.tensor,), rows, arrived, decoded.wait_seconds, decoded.seconds)

    async def _decode_and_run(
        self, decoder: Decoder, image: bytes, deadline: float
    ) -> tuple[_Prepared, Inferred]:
        """Decode a picture and run it; one thread does both where no other would be idle."""
        arrived = time.monotonic()
        is_free = self._batcher.is_free and decoder.is_free
        runs_fill_processors = self.model.plan.instances >= decoder.threads
        if not (runs_fill_processors or is_free) or decoder.may_be_small(image):
            prepared = self._prepared(await decoder.decode(image, arrived, deadline), arrived)
            return prepared, await self._submit(prepared, deadline)
        decoded: list[Decoded] = []

        def make() -> tuple[Array, ...]:
            decoded.append(decoder.decode_here(image, arrived, deadline))
            return (decoded[-1].tensor,)

        batch_axis = () if self.max_batch_size > 1 else (1,)
        shapes = ((*batch_axis, *decoder.row_shape),)
        inferred = await self._batcher.submit_unmade(make, shapes, deadline)
        # The batcher counts the wait for the thread.
        return self._prepared(decoded[-1]._replace(wait_seconds=0.0), arrived), inferred

    def _answer(
        self,
        question: Question,
        prepared: _Prepared,
        inferred: Inferred,
        encode: Callable[[tuple[Array, ...]], Answer],
    ) -> tuple[Answer, Timing]:
        encode_start = time.monotonic()
        answer = encode(inferred.outputs)
        end = time.monotonic()
        timing = Timing(
            decode_seconds=prepared.decode_seconds,
            queue_seconds=prepared.wait_seconds + inferred.queue_seconds,
            infer_seconds=inferred.infer_seconds,
            encode_seconds=end - encode_start,
            total_seconds=end - prepared.arrived,
            batch_size=inferred.batch_size,
        )
        self._ledger.answered(timing, prepared.rows)
        if self.trial is not None:
            busy = self._admission.is_busy
            self.trial.copy(question, inferred.outputs, self.model.sha256, busy=busy)
        return answer, timing

    async def _submit(self, prepared: _Prepared, deadline: float) -> Inferred:
        """Hand a request to the batcher: what is larger than a batch goes in pieces."""
        size, rows = self.max_batch_size, prepared.rows
        if rows <= size:
            return await self._batcher.submit(prepared.inputs, rows, deadline)
        pieces = await asyncio.gather(
            *(
                self._batcher.submit(
                    tuple(array[start : start + size] for array in prepared.inputs),
                    min(size, rows - start),
                    deadline,
                )
                for start in range(0, rows, size)
            )
        )
        columns = zip(*(piece.outputs for piece in pieces), strict=True)
        return Inferred(
            outputs=tuple(np.concatenate(column) for column in columns),
            queue_seconds=pieces[0].queue_seconds,
            infer_seconds=sum(piece.infer_seconds for piece in pieces),
            batch_size=max(piece.batch_size for piece in pieces),
        )
