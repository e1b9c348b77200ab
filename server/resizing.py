"""Resizing and cropping as torchvision does it, without computing most of what the crop drops."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from convlens.analysis.card import Preprocessing
from convlens.server import simd

# How far Lanczos, the widest of Pillow's filters, reaches: in pixels of the smaller picture.
_REACH = 3


def resize_and_crop(
    picture: Image.Image, preprocessing: Preprocessing, *, approximate: bool = False
) -> Image.Image:
    """Resize, then cut out the centre, as torchvision does.

    Args:
        picture: in the colours of the model.
        preprocessing: of the model.
        approximate: whether pixels may differ by 1 of 255, for speed: see `simd`.

    Returns:
        The pixels that torchvision gives; where there are too few for the crop, a black border.
    """
    width, height = _resized_size(picture.size, preprocessing)
    crop_height, crop_width = preprocessing.crop or (height, width)
    resampling = Image.Resampling[preprocessing.interpolation.upper()]
    if (width, height) == picture.size:
        pass
    elif not _has_parts(picture, preprocessing):
        picture = picture.resize((width, height), resampling)
    else:
        columns = _Part.centre(picture.width, width, crop_width)
        rows = _Part.centre(picture.height, height, crop_height)
        if approximate and simd.can_resize(resampling):
            (left, right), (top, bottom) = columns.source, rows.source
            size = (columns.stop - columns.start, rows.stop - rows.start)
            picture = simd.resize(picture, size, (left, top, right, bottom), resampling)
        else:
            picture = _resize_part(picture, columns, rows, resampling)
    left, top = _margin(picture.width, crop_width), _margin(picture.height, crop_height)
    return _cut(picture, (left, top, left + crop_width, top + crop_height))


def _resized_size(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """(width, height) after resizing.

    As torchvision has it: a single length is the shorter side's, and the longer one is truncated.
    """
    if isinstance(preprocessing.resize, tuple):
        height, width = preprocessing.resize
        return width, height
    side = preprocessing.resize
    width, height = size
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


class _Part(NamedTuple):
    """What is computed of one axis: [start, stop) of the pixels that `length` is resized to."""

    length: int
    resized: int
    start: int
    stop: int

    @classmethod
    def centre(cls, length: int, resized: int, cropped: int) -> "_Part":
        """What a centre crop keeps."""
        start = max(0, _margin(resized, cropped))
        return cls(length, resized, start, min(resized, start + cropped))

    @property
    def source(self) -> tuple[float, float]:
        """Where it lies before resizing."""
        return self.start * self.length / self.resized, self.stop * self.length / self.resized

    def widened(self) -> "_Part":
        """The least that contains it and that Pillow computes as it does the whole, bit for bit.

        Pillow takes the source as float32 and derives each pixel's place from it. The pixels are
        the same where both ends are float32 numbers: that is so at the multiples of the odd part of
        the reduced ratio's denominator (3 for 500 -> 384, which is 125/96).
        """
        denominator = self.resized // math.gcd(self.length, self.resized)
        step = denominator // (denominator & -denominator)
        start, stop = self.start // step * step, min(self.resized, -(-self.stop // step) * step)
        wider = self._replace(start=start, stop=stop)
        if any(float(np.float32(end)) != end for end in wider.source):
            return self._replace(start=0, stop=self.resized)
        return wider


def _resize_part(
    picture: Image.Image, columns: _Part, rows: _Part, resampling: Image.Resampling
) -> Image.Image:
    """Resize along the width, then along the height, and cut out the part."""
    across, down = columns.widened(), rows.widened()
    (left, right), (top, bottom) = across.source, down.source
    reach = math.ceil(_REACH * max(1.0, rows.length / rows.resized))
    first, last = max(0, int(top) - reach), min(rows.length, math.ceil(bottom) + reach)
    height = last - first
    picture = _cut(picture, (0, first, columns.length, last))
    picture = picture.resize(
        (across.stop - across.start, height), resampling, (left, 0, right, height)
    )
    picture = _cut(picture, (columns.start - across.start, 0, columns.stop - across.start, height))
    box = (0, top - first, picture.width, bottom - first)
    picture = picture.resize((picture.width, down.stop - down.start), resampling, box)
    return _cut(picture, (0, rows.start - down.start, picture.width, rows.stop - down.start))


def _has_parts(picture: Image.Image, preprocessing: Preprocessing) -> bool:
    """Whether a part of the result can be computed alone, width first and then height.

    Each order rounds in its own way. From 13.0 on Pillow begins with what is cheaper: where the
    sides keep their ratio, with the height if it is more than twice the width. The nearest pixel,
    and those in a box, change at once where their place is off by a rounding.
    """
    return (
        preprocessing.interpolation not in {"nearest", "box"}
        and not isinstance(preprocessing.resize, tuple)
        and picture.height <= 2 * picture.width
    )


def _cut(picture: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """The pixels of a box, black where there are none; the picture itself where that is all."""
    return picture if box == (0, 0, *picture.size) else picture.crop(box)


def _margin(length: int, cropped: int) -> int:
    return round((length - cropped) / 2) if cropped <= length else -((cropped - length) // 2)
