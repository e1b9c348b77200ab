"""Pictures to calibrate a model in fewer bits with, and others to compare it on."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, resize

from convlens.analysis.card import Preprocessing
from convlens.export import digits
from convlens.export.errors import PrecisionError
from convlens.export.photographs import (
    Photographs,
    photograph_input,
    two_photographs,
    undistorted_pieces,
)

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_CALIBRATION = 64
_COMPARED = 128
_CALIBRATION_SEED, _COMPARED_SEED = 1, 2
_HELD_OUT_EVERY = 3  # of a folder, every third picture is compared on
_FEWEST = 6
_MOST = 600  # of a folder: what a few hundred pictures do not show, more hardly do


@dataclass(frozen=True)
class TrialPictures:
    """Two sets of inputs that share no picture.

    Attributes:
        calibration: (count, channels, height, width).
        compared: likewise.
        source: where they come from, in a few words.
    """

    calibration: NDArray[np.float32]
    compared: NDArray[np.float32]
    source: str


def trial_pictures(
    input_shape: tuple[int, int, int], how: Preprocessing | None, folder: Path | None
) -> TrialPictures:
    """Read the user's pictures, or take those that scikit-learn and scikit-image bring along.

    Args:
        input_shape: (channels, height, width) of one picture.
        how: a picture becomes the input; None takes zero mean and unit deviation.
        folder: searched with its subfolders; every third picture, by name, is held out.

    Raises:
        PrecisionError: the folder has fewer than six pictures, or one cannot be read.
    """
    if folder is not None:
        return _from_folder(folder, how)
    if how == digits.PREPROCESSING:
        training, held_out = (part.examples() for part in digits.split_digits(digits.load_digits()))
        few = training.inputs[:_CALIBRATION]
        return TrialPictures(few, held_out.inputs, f"{digits.DATASET}, held-out part")
    calibration, compared = (
        _pieces_as_inputs(photographs, count, seed, input_shape, how)
        for photographs, count, seed in (
            (_calibration_photographs(), _CALIBRATION, _CALIBRATION_SEED),
            (_compared_photographs(), _COMPARED, _COMPARED_SEED),
        )
    )
    return TrialPictures(calibration, compared, "pieces of scikit-image's photographs")


def _calibration_photographs() -> Photographs:
    return [*two_photographs(), skimage.data.coffee(), skimage.data.rocket()]


def _compared_photographs() -> Photographs:
    motorcycle, _right_eye, _disparity = skimage.data.stereo_motorcycle()
    return [skimage.data.astronaut(), skimage.data.chelsea(), motorcycle]


def _pieces_as_inputs(
    photographs: Photographs,
    count: int,
    seed: int,
    input_shape: tuple[int, int, int],
    how: Preprocessing | None,
) -> NDArray[np.float32]:
    if how is None:
        return photograph_input(count, input_shape, seed, photographs)
    return _inputs(undistorted_pieces(count, how.color, how.size, seed, photographs), how)


def _from_folder(folder: Path, how: Preprocessing | None) -> TrialPictures:
    if how is None:
        raise PrecisionError("the model does not say how a picture becomes its input")
    found = sorted(path for path in folder.rglob("*") if _is_picture(path))
    if len(found) < _FEWEST:
        raise PrecisionError(
            f"{folder} holds {len(found)} pictures; calibration and comparison take at least "
            f"{_FEWEST}"
        )
    # Spread over all subfolders, which may be classes.
    chosen = [found[at] for at in np.linspace(0, len(found) - 1, min(len(found), _MOST), dtype=int)]
    inputs = _inputs((_open(path, how) for path in chosen), how)
    held_out = np.arange(len(chosen)) % _HELD_OUT_EVERY == 0
    return TrialPictures(inputs[~held_out], inputs[held_out], f"the folder {folder.resolve().name}")


def _is_picture(path: Path) -> bool:
    # macOS keeps notes on a picture beside it, under its own name behind a dot.
    hidden = path.name.startswith(".")
    return path.suffix.lower() in _SUFFIXES and not hidden and path.is_file()


def _open(path: Path, how: Preprocessing) -> Image.Image:
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture).convert(how.color)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PrecisionError(f"cannot read the picture {path}: {error}") from error
    size = [how.resize] if isinstance(how.resize, int) else list(how.resize)
    resized: Image.Image = resize(upright, size, InterpolationMode(how.interpolation))
    if how.crop is None:
        return resized
    cropped: Image.Image = center_crop(resized, list(how.crop))
    return cropped


def _inputs(pictures: Iterable[Image.Image], how: Preprocessing) -> NDArray[np.float32]:
    mean, std = np.asarray(how.mean), np.asarray(how.std)
    planes = [
        ((np.asarray(picture).reshape(*how.size, how.channels) * how.scale - mean) / std)
        .astype(np.float32)
        .transpose(2, 0, 1)
        for picture in pictures
    ]
    return np.ascontiguousarray(np.stack(planes))
