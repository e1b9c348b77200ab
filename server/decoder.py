"""Pictures become a model's input, each alone, in threads that all models share."""

import asyncio
import math
import time
from collections.abc import Awaitable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from convlens.analysis.card import Preprocessing
from convlens.server.errors import DeadlineExceededError, InvalidPictureError
from convlens.server.picture import FloatArray, PixelArray, open_picture, to_input, to_pixels
from convlens.server.turns import Turns

Result = TypeVar("Result")

# A picture and an input no larger than this are handled on the event loop, in a tenth of a
# millisecond: less than a change of thread there and back may take. The bytes are bounded too, so
# that asking for a large picture's size costs nothing.
SMALL_PIXELS = 64 * 64
SMALL_BYTES = 4096


def may_be_small(picture: bytes, preprocessing: Preprocessing) -> bool:
    """Whether decoding a picture may not need a thread at all."""
    return len(picture) <= SMALL_BYTES and math.prod(preprocessing.size) <= SMALL_PIXELS


class Decoded(NamedTuple):
    """Pictures as the model takes them.

    Attributes:
        tensor: (pictures, *the input's other axes).
        wait_seconds: until a thread had time for the first one.
        seconds: from then until the last one was done.
    """

    tensor: FloatArray | PixelArray
    wait_seconds: float
    seconds: float


class Decoder:
    """Decodes the pictures of one model.

    Args:
        preprocessing: of the model.
        normalised: whether the model takes values, or else the pixels themselves.
        max_pixels: the most that a picture's header may announce.
        turns: the threads that do it; small pictures need none.
        approximate: see `to_pixels`.

    Attributes:
        row_shape: of what a picture becomes.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        max_pixels: int,
        turns: Turns,
        *,
        normalised: bool = True,
        approximate: bool = False,
    ) -> None:
        self._prepare = partial(
            to_input if normalised else to_pixels,
            preprocessing=preprocessing,
            max_pixels=max_pixels,
            approximate=approximate,
        )
        channels, (height, width) = preprocessing.channels, preprocessing.size
        nhwc = preprocessing.layout == "NHWC"
        self.row_shape = (height, width, channels) if nhwc else (channels, height, width)
        self._max_pixels = max_pixels
        self._preprocessing = preprocessing
        self._turns = turns
        self._under_way = 0

    @property
    def threads(self) -> int:
        """How many decode at the same time."""
        return self._turns.threads

    @property
    def is_free(self) -> bool:
        """Whether no picture waits for a thread, or is decoded in one."""
        return not self._under_way

    def may_be_small(self, picture: bytes) -> bool:
        """Whether `decode` may not need a thread at all."""
        return may_be_small(picture, self._preprocessing)

    async def decode(self, picture: bytes, arrived: float, deadline: float) -> Decoded:
        """Decode one picture.

        Args:
            picture: encoded.
            arrived: as of `time.monotonic`; the wait is counted from there.
            deadline: likewise; work that is too late already is not begun.

        Raises:
            InvalidPictureError: the picture cannot be used.
            DeadlineExceededError: the deadline passed before a thread had time.
        """
        readable: bytes | Image.Image = picture
        if self.may_be_small(picture):
            readable = open_picture(picture, self._max_pixels)
            if readable.width * readable.height <= SMALL_PIXELS:
                return self.decode_here(readable, arrived, deadline)
        self._under_way += 1
        try:
            return await self._turns.run(self, self.decode_here, readable, arrived, deadline)
        finally:
            self._under_way -= 1

    async def decode_all(
        self, pictures: Sequence[bytes], arrived: float, deadline: float
    ) -> Decoded:
        """Decode the pictures of one request; see `decode`.

        Raises:
            InvalidPictureError: a picture cannot be used; the text has the first such one's index.
            DeadlineExceededError: the deadline passed before a thread had time.
        """
        decoded = await gather_pictures(
            self.decode(picture, arrived, deadline) for picture in pictures
        )
        wait_seconds = min(entry.wait_seconds for entry in decoded)
        tensors = [entry.tensor for entry in decoded]
        tensor = await self._turns.run(self, np.concatenate, tensors)
        return Decoded(tensor, wait_seconds, time.monotonic() - arrived - wait_seconds)

    def decode_here(self, picture: bytes | Image.Image, arrived: float, deadline: float) -> Decoded:
        """Decode one picture in the calling thread; see `decode`."""
        start = time.monotonic()
        if start >= deadline:
            raise DeadlineExceededError("the deadline passed before the picture was decoded")
        tensor = self._prepare(picture)
        return Decoded(tensor[None], start - arrived, time.monotonic() - start)


async def gather_pictures(work: Iterable[Awaitable[Result]]) -> list[Result]:
    """Await what is done with each picture of one request.

    Raises:
        InvalidPictureError: a picture cannot be used; the text has the first such one's index.
        Exception: what else went wrong with the first one that something did.
    """
    results = await asyncio.gather(*work, return_exceptions=True)
    good = []
    for index, result in enumerate(results):
        if isinstance(result, InvalidPictureError):
            raise InvalidPictureError(f"picture {index}: {result}") from result
        if isinstance(result, BaseException):
            raise result
        good.append(result)
    return good
