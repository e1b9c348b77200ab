"""A picture's bytes become the model's input, as torchvision's transforms on PIL images do it."""

import io
import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from convlens.analysis.card import Preprocessing
from convlens.server.errors import InvalidPictureError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

FloatArray = np.ndarray[Any, np.dtype[np.float32]]
PixelArray = np.ndarray[Any, np.dtype[np.uint8]]


def to_pixels(
    data: bytes | Image.Image,
    preprocessing: Preprocessing,
    max_pixels: int,
    *,
    approximate: bool = False,
) -> PixelArray:
    """Decode, convert, resize and crop one picture; the graph does the rest.

    Args:
        data: an encoded picture in one of `FORMATS`, or what `open_picture` made of it.
        preprocessing: of the model.
        max_pixels: the most that the picture's header may announce.
        approximate: whether small deviations are welcome where they save time: see `decode` and
            `resize_and_crop`.

    Returns:
        (channels, height, width), or (height, width, channels) where the layout is NHWC.

    Raises:
        InvalidPictureError: not a picture, a truncated one, or one with too many pixels.
    """
    least = _least_size(preprocessing) if approximate else None
    picture = decode(data, preprocessing.color, max_pixels, least)
    pixels = np.asarray(resize_and_crop(picture, preprocessing, approximate=approximate))
    pixels = pixels.reshape(*pixels.shape[:2], preprocessing.channels)
    return pixels if preprocessing.layout == "NHWC" else pixels.transpose(2, 0, 1)


def to_input(
    data: bytes | Image.Image,
    preprocessing: Preprocessing,
    max_pixels: int,
    *,
    approximate: bool = False,
) -> FloatArray:
    """The same, normalised: (pixel * scale - mean) / std."""
    return normalise(
        to_pixels(data, preprocessing, max_pixels, approximate=approximate), preprocessing
    )


def open_picture(data: bytes, max_pixels: int) -> Image.Image:
    """Read the header of a picture; its pixels are decoded later.

    Args:
        data: an encoded picture in one of `FORMATS`.
        max_pixels: the most that the header may announce.

    Raises:
        InvalidPictureError: not a picture, or one with too many pixels.
    """
    if not data:
        raise InvalidPictureError("the picture is empty (0 bytes)")
    try:
        picture: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = picture.size
    except UnidentifiedImageError as error:
        raise InvalidPictureError(
            f"the {len(data)} bytes are not a picture in one of {', '.join(FORMATS)}"
        ) from error
    except Exception as error:  # whatever a broken file makes of Pillow's many decoders
        raise _broken(error) from error
    if width * height > max_pixels:
        raise InvalidPictureError(
            f"the picture has {width} x {height} pixels; the limit is {max_pixels}"
        )
    return picture


def decode(
    data: bytes | Image.Image, color: str, max_pixels: int, least: tuple[int, int] | None = None
) -> Image.Image:
    """Decode a picture, turn it upright by its EXIF orientation and convert its colours.

    Args:
        data: an encoded picture in one of `FORMATS`, or what `open_picture` made of it.
        color: Pillow's name of the mode.
        max_pixels: the most that the picture's header may announce.
        least: (width, height) that is enough: a JPEG may then be decoded at a half, a quarter or an
            eighth of its size; None for its full size.

    Raises:
        InvalidPictureError: not a picture, a truncated one, or one with too many pixels.
    """
    picture = open_picture(data, max_pixels) if isinstance(data, bytes) else data
    try:
        if least is not None:
            picture.draft(None, least)
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        return picture if picture.mode == color else picture.convert(color)
    except Exception as error:  # whatever a broken file makes of Pillow's many decoders
        raise _broken(error) from error


def _broken(error: Exception) -> InvalidPictureError:
    return InvalidPictureError(f"the picture is broken: {error}")


def resize_and_crop(
    picture: Image.Image, preprocessing: Preprocessing, *, approximate: bool = False
) -> Image.Image:
    """Resize, then cut out the centre, as torchvision does.

    What the crop would drop is not computed where that leaves every pixel as it is; where pixels
    may differ by 1 of 255, in `approximate` mode only. A picture that is too small for the crop
    gets a black border.
    """
    width, height = _resized(picture.size, preprocessing)
    crop_height, crop_width = preprocessing.crop or (height, width)
    exact = not approximate
    if (width, height) == picture.size:
        columns, rows = _whole(width, width), _whole(height, height)
    elif not _separable(picture, preprocessing):
        columns, rows = _whole(picture.width, width), _whole(picture.height, height)
        picture = picture.resize((width, height), _filter(preprocessing))
    else:
        columns = _kept(picture.width, width, crop_width, exact=exact)
        rows = _kept(picture.height, height, crop_height, exact=exact)
        picture = _resize_kept(picture, columns, rows, _filter(preprocessing))
    left = _margin(width, crop_width) - columns.start
    top = _margin(height, crop_height) - rows.start
    box = (left, top, left + crop_width, top + crop_height)
    return picture if box == (0, 0, *picture.size) else picture.crop(box)


def _separable(picture: Image.Image, preprocessing: Preprocessing) -> bool:
    """Whether Pillow resizes the width first and then the height: each order rounds in its own way.

    From 13.0 on it begins with the height of pictures that are more than twice as tall as wide.
    """
    return (
        preprocessing.interpolation != "nearest"
        and not isinstance(preprocessing.resize, tuple)
        and picture.height <= 2 * picture.width
    )


def _filter(preprocessing: Preprocessing) -> Image.Resampling:
    return Image.Resampling[preprocessing.interpolation.upper()]


def _resize_kept(
    picture: Image.Image, columns: "_Kept", rows: "_Kept", resampling: Image.Resampling
) -> Image.Image:
    """Resize along the width, then along the height."""
    width = columns.stop - columns.start
    across = (columns.source_start, 0, columns.source_stop, picture.height)
    picture = picture.resize((width, picture.height), resampling, across)
    down = (0, rows.source_start, width, rows.source_stop)
    return picture.resize((width, rows.stop - rows.start), resampling, down)


class _Kept(NamedTuple):
    """What is computed of one axis: [start, stop) after resizing, from what lies there before."""

    start: int
    stop: int
    source_start: float
    source_stop: float


def _whole(length: int, resized: int) -> _Kept:
    return _Kept(0, resized, 0.0, float(length))


def _kept(length: int, resized: int, cropped: int, *, exact: bool) -> _Kept:
    """The part of an axis that a centre crop keeps.

    Pillow takes the source as float32 and derives each pixel's place from it. The pixels are the
    same, bit for bit, where both ends are float32 numbers: that is so at the multiples of the odd
    part of the reduced ratio's denominator (3 for 500 -> 384, which is 125/96).
    """
    step = 1
    if exact:
        denominator = resized // math.gcd(length, resized)
        step = denominator // (denominator & -denominator)
    margin = _margin(resized, cropped)
    start = max(0, margin // step * step)
    stop = min(resized, -(-(margin + cropped) // step) * step)
    kept = _Kept(start, stop, start * length / resized, stop * length / resized)
    if exact and any(float(np.float32(end)) != end for end in kept[2:]):
        return _whole(length, resized)
    return kept


def _resized(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
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


def _least_size(preprocessing: Preprocessing) -> tuple[int, int]:
    """(width, height) from which resizing only ever scales down."""
    if isinstance(preprocessing.resize, tuple):
        return preprocessing.resize[1], preprocessing.resize[0]
    return preprocessing.resize, preprocessing.resize


def _margin(length: int, cropped: int) -> int:
    return round((length - cropped) / 2) if cropped <= length else -((cropped - length) // 2)


def normalise(pixels: PixelArray, preprocessing: Preprocessing) -> FloatArray:
    """Compute (pixel * scale - mean) / std.

    Args:
        pixels: (channels, height, width), or (height, width, channels) where the layout is NHWC.
        preprocessing: of the model.

    Returns:
        The same shape, contiguous.
    """
    std = np.asarray(preprocessing.std, dtype=np.float64)
    factor = (preprocessing.scale / std).astype(np.float32)
    offset = (np.asarray(preprocessing.mean, dtype=np.float64) / std).astype(np.float32)
    if preprocessing.layout == "NCHW":
        factor, offset = factor[:, None, None], offset[:, None, None]
    values = np.multiply(pixels, factor, dtype=np.float32, order="C")
    values -= offset
    return values
