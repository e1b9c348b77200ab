"""From pictures or tensors to the outputs of the graph: decoded, batched, run."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from convlens.server.batch_time import BatchTime
from convlens.server.batcher import Batcher
from convlens.server.decoder import Decoded, Decoder, gather_pictures
from convlens.server.errors import InvalidRequestError
from convlens.server.model import Model
from convlens.server.settings import Settings
from convlens.server.tensor import Array
from convlens.server.turns import Turns
from convlens.server.waiting_line import Inferred


class Passed(NamedTuple):
    """What came out for a request, and the time that each stage took.

    Attributes:
        outputs: of the graph.
        rows: of each.
        arrived: as of `time.monotonic`.
        decode_seconds: of its pictures.
        queue_seconds: that it waited for a thread, and for its run.
        infer_seconds: of the run.
        batch_size: the rows that shared it.
    """

    outputs: tuple[Array, ...]
    rows: int
    arrived: float
    decode_seconds: float
    queue_seconds: float
    infer_seconds: float
    batch_size: int

    @property
    def seconds(self) -> float:
        """From its arrival to its outputs."""
        return self.decode_seconds + self.queue_seconds + self.infer_seconds


class Pipeline:
    """The decoder of a model's pictures, and the batcher of its runs.

    Args:
        model: loaded and checked.
        decoders: the threads that turn bytes into inputs; shared by all models.
        settings: of the server.
        on_decoded: is told how many seconds so many pictures took.
        on_batch: is told how many rows shared a run, and its seconds.
    """

    def __init__(
        self,
        model: Model,
        decoders: Turns,
        settings: Settings,
        on_decoded: Callable[[float, int], None],
        on_batch: Callable[[int, float], None],
    ) -> None:
        self.max_batch_size = model.plan.max_batch_size if model.signature.batched else 1
        self._name = model.name
        self._on_decoded = on_decoded
        self._decodes_where_it_runs = model.plan.instances >= decoders.threads
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
        self._batcher = Batcher(
            model.run,
            self.max_batch_size,
            on_batch,
            batch_time=BatchTime(),
            max_delay_seconds=settings.max_delay_ms / 1e3,
            instances=model.plan.instances,
        )

    @property
    def waiting(self) -> int:
        """How many rows wait for their run."""
        return len(self._batcher)

    def check_takes_pictures(self) -> None:
        """Whether it has a decoder.

        Raises:
            InvalidRequestError: the model takes tensors only.
        """
        if self._decoder is None:
            raise InvalidRequestError(
                f"model {self._name!r} takes tensors, not pictures: "
                "its file carries no convlens.preprocessing"
            )

    async def run_picture(self, picture: bytes, deadline: float) -> Passed:
        """Decode a picture and run it; one thread does both where no other would be idle.

        Args:
            picture: encoded.
            deadline: as of `time.monotonic`; infinite for none.

        Raises:
            InvalidPictureError: the picture cannot be used.
            DeadlineExceededError: the deadline passed before the work began, or cannot be met.
        """
        arrived, decoder = time.monotonic(), self._decoder
        assert decoder is not None, "see check_takes_pictures"
        is_free = self._batcher.is_free and decoder.is_free
        if not (self._decodes_where_it_runs or is_free) or decoder.may_be_small(picture):
            decoded = await decoder.decode(picture, arrived, deadline)
            return await self._run_decoded(decoded, arrived, deadline)
        found: list[Decoded] = []

        def make() -> tuple[Array, ...]:
            found.append(decoder.decode_here(picture, arrived, deadline))
            return (found[-1].tensor,)

        batch_axis = () if self.max_batch_size > 1 else (1,)
        shapes = ((*batch_axis, *decoder.row_shape),)
        inferred = await self._batcher.submit_unmade(make, shapes, deadline)
        # The batcher counts the wait for the thread.
        return self._passed(inferred, found[-1]._replace(wait_seconds=0.0), arrived)

    async def run_pictures(self, pictures: Sequence[bytes], deadline: float) -> Passed:
        """Decode the pictures of one request and run them; see `run_picture`.

        The times of those that run apart are those of the one that takes longest.

        Raises:
            InvalidPictureError: a picture cannot be used; the text has the first such one's index.
        """
        arrived, decoder = time.monotonic(), self._decoder
        assert decoder is not None, "see check_takes_pictures"
        apart = self._decodes_where_it_runs and not any(map(decoder.may_be_small, pictures))
        if apart or len(pictures) == 1:
            passed = await gather_pictures(
                self.run_picture(picture, deadline) for picture in pictures
            )
            outputs = _joined([one.outputs for one in passed])
            last = max(passed, key=lambda one: one.seconds)
            return last._replace(outputs=outputs, rows=len(pictures), arrived=arrived)
        decoded = await decoder.decode_all(pictures, arrived, deadline)
        return await self._run_decoded(decoded, arrived, deadline)

    async def run_tensors(self, inputs: tuple[Array, ...], rows: int, deadline: float) -> Passed:
        """Run the model's own inputs.

        Args:
            inputs: in the graph's order, each (rows, ...).
            rows: of each.
            deadline: as of `time.monotonic`; infinite for none.

        Raises:
            DeadlineExceededError: the deadline passed before the work began, or cannot be met.
        """
        arrived = time.monotonic()
        inferred = await self._submit(inputs, rows, deadline)
        return Passed(inferred.outputs, rows, arrived, 0.0, *inferred[1:])

    async def close(self) -> None:
        """Answer what waits, then end the threads."""
        await self._batcher.close()

    async def _run_decoded(self, decoded: Decoded, arrived: float, deadline: float) -> Passed:
        inferred = await self._submit((decoded.tensor,), len(decoded.tensor), deadline)
        return self._passed(inferred, decoded, arrived)

    def _passed(self, inferred: Inferred, decoded: Decoded, arrived: float) -> Passed:
        rows = len(decoded.tensor)
        self._on_decoded(decoded.seconds, rows)
        return Passed(
            inferred.outputs,
            rows,
            arrived,
            decoded.seconds,
            decoded.wait_seconds + inferred.queue_seconds,
            inferred.infer_seconds,
            inferred.batch_size,
        )

    async def _submit(self, inputs: tuple[Array, ...], rows: int, deadline: float) -> Inferred:
        """Hand a request to the batcher: what is larger than a batch goes in pieces."""
        size = self.max_batch_size
        if rows <= size:
            return await self._batcher.submit(inputs, rows, deadline)
        pieces = await asyncio.gather(
            *(
                self._batcher.submit(
                    tuple(array[start : start + size] for array in inputs),
                    min(size, rows - start),
                    deadline,
                )
                for start in range(0, rows, size)
            )
        )
        return Inferred(
            outputs=_joined([piece.outputs for piece in pieces]),
            queue_seconds=pieces[0].queue_seconds,
            infer_seconds=sum(piece.infer_seconds for piece in pieces),
            batch_size=max(piece.batch_size for piece in pieces),
        )


def _joined(outputs: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
    """The outputs of several runs as those of one."""
    if len(outputs) == 1:
        return outputs[0]
    return tuple(np.concatenate(column) for column in zip(*outputs, strict=True))
