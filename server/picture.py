"""A picture's bytes become the model's input, as torchvision's transforms on PIL images do it."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from convlens.analysis.card import Preprocessing
from convlens.server.errors import InvalidPictureError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

FloatArray = np.ndarray[Any, np.dtype[np.float32]]
PixelArray = np.ndarray[Any, np.dtype[np.uint8]]


def to_pixels(data: bytes, preprocessing: Preprocessing, max_pixels: int) -> PixelArray:
    """Decode, convert, resize and crop one picture; the graph does the rest.

    Args:
        data: an encoded picture in one of `FORMATS`.
        preprocessing: of the model.
        max_pixels: the most that the picture's header may announce.

    Returns:
        (channels, height, width), or (height, width, channels) where the layout is NHWC.

    Raises:
        InvalidPictureError: not a picture, a truncated one, or one with too many pixels.
    """
    picture = decode(data, preprocessing.color, max_pixels)
    pixels = np.asarray(crop(resize(picture, preprocessing), preprocessing))
    pixels = pixels.reshape(*pixels.shape[:2], preprocessing.channels)
    return pixels if preprocessing.layout == "NHWC" else pixels.transpose(2, 0, 1)


def to_input(data: bytes, preprocessing: Preprocessing, max_pixels: int) -> FloatArray:
    """The same, normalised: (pixel * scale - mean) / std."""
    return normalise(to_pixels(data, preprocessing, max_pixels), preprocessing)


def decode(data: bytes, color: str, max_pixels: int) -> Image.Image:
    """Decode a picture, turn it upright by its EXIF orientation and convert its colours.

    Raises:
        InvalidPictureError: not a picture, a truncated one, or one with too many pixels.
    """
    if not data:
        raise InvalidPictureError("the picture is empty (0 bytes)")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = picture.size
        if width * height > max_pixels:
            raise InvalidPictureError(
                f"the picture has {width} x {height} pixels; the limit is {max_pixels}"
            )
        return ImageOps.exif_transpose(picture).convert(color)
    except UnidentifiedImageError as error:
        raise InvalidPictureError(
            f"the {len(data)} bytes are not a picture in one of {', '.join(FORMATS)}"
        ) from error
    except InvalidPictureError:
        raise
    except Exception as error:  # whatever a broken file makes of Pillow's many decoders
        raise InvalidPictureError(f"the picture is broken: {error}") from error


def resize(picture: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Resize as torchvision does: a single length is the shorter side, the longer is truncated."""
    if isinstance(preprocessing.resize, tuple):
        height, width = preprocessing.resize
    else:
        side = preprocessing.resize
        width, height = picture.size
        if width <= height:
            width, height = side, int(side * height / width)
        else:
            width, height = int(side * width / height), side
    if (width, height) == picture.size:
        return picture
    return picture.resize((width, height), Image.Resampling[preprocessing.interpolation.upper()])


def crop(picture: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Cut the centre out as torchvision does; a picture that is too small gets a black border."""
    if preprocessing.crop is None:
        return picture
    height, width = preprocessing.crop
    left = _margin(picture.width, width)
    top = _margin(picture.height, height)
    return picture.crop((left, top, left + width, top + height))


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
