"""What may be classified, and how it becomes an encoded picture."""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from convlens.client.connection import MAX_MESSAGE_BYTES
from convlens.client.errors import PictureError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

Picture: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | npt.NDArray[np.uint8]"
)
# What PNG keeps as it is; other modes are converted as the server would convert them.
PNG_MODES = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})


def picture_bytes(picture: Picture) -> bytes:
    """The encoded picture: bytes as they are, a file's contents, anything else as a PNG.

    Args:
        picture: the path of a file; an encoded picture's bytes; a PIL image, whose EXIF
            orientation is honoured; or a uint8 array of shape (height, width) for grey,
            (height, width, 3) for RGB or (height, width, 4) for RGBA.

    Raises:
        PictureError: the file cannot be read, the value is no picture, or it is too large to be
            sent.
    """
    if isinstance(picture, bytes | bytearray | memoryview):
        encoded = bytes(picture)
    elif isinstance(picture, str | os.PathLike):
        encoded = _beginning(picture)
    else:
        encoded = _png(picture)
    if len(encoded) > MAX_MESSAGE_BYTES:
        text = f"larger than the {MAX_MESSAGE_BYTES:,} bytes that can be sent"
        raise PictureError("INVALID_ARGUMENT", text)
    return encoded


def _beginning(path: "str | os.PathLike[str]") -> bytes:
    """A file's contents, or enough of them to know that they cannot be sent: some have no end."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_MESSAGE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise PictureError("INVALID_ARGUMENT", f"cannot be read: {reason}") from error


def _png(picture: Any) -> bytes:
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError as error:
        text = "PIL images and arrays need Pillow: pip install pillow"
        raise PictureError("INVALID_ARGUMENT", text) from error
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(_pixels(picture))
    try:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode not in PNG_MODES:
            upright = upright.convert("RGB")
        buffer = io.BytesIO()
        # Lossless at every level; the lowest costs a third of the time of the default one.
        upright.save(buffer, "PNG", compress_level=1)
    except (OSError, ValueError) as error:
        raise PictureError("INVALID_ARGUMENT", f"cannot be encoded: {error}") from error
    return buffer.getvalue()


def _pixels(picture: Any) -> Any:
    import numpy as np

    if not isinstance(picture, np.ndarray):
        text = f"a path, bytes, a PIL image or an array is needed, not {type(picture).__name__}"
        raise PictureError("INVALID_ARGUMENT", text)
    grey, coloured = picture.ndim == 2, picture.ndim == 3 and picture.shape[2] in (3, 4)
    if picture.dtype != np.uint8 or not (grey or coloured) or picture.size == 0:
        text = (
            "an array must be uint8 of shape (height, width) or (height, width, 3 or 4), is "
            f"{picture.dtype} {picture.shape}"
        )
        raise PictureError("INVALID_ARGUMENT", text)
    return np.ascontiguousarray(picture)
