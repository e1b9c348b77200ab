"""A picture's bytes become the model's input, as torchvision's transforms on PIL images do it."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from convlens.analysis.card import Preprocessing
from convlens.server.errors import InvalidPictureError
from convlens.server.resizing import resize_and_crop

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
            `simd`.

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


def _least_size(preprocessing: Preprocessing) -> tuple[int, int]:
    """(width, height) from which resizing only ever scales down."""
    if isinstance(preprocessing.resize, tuple):
        return preprocessing.resize[1], preprocessing.resize[0]
    return preprocessing.resize, preprocessing.resize


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
