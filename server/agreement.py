"""Whether a faster way to run a model still gives its answers."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from convlens.analysis.card import Preprocessing, golden_input, relative_deviation
from convlens.server.errors import InvalidPictureError
from convlens.server.model import REDUCED_TOLERANCE, Model
from convlens.server.picture import FORMATS, to_input, to_pixels
from convlens.server.tensor import DTYPES, Array

# The same class first on this share of the inputs.
MIN_TOP1_AGREEMENT = 0.99
MAX_PICTURES = 200
SEEDED_INPUTS = 16
KEPT_PICTURES = 16
MAX_PIXELS = 64_000_000


@dataclass(frozen=True)
class Agreement:
    """How near a way to run a model comes to fp32 on the CPU.

    Attributes:
        top1: the share of the inputs whose largest output is the same.
        deviation: the largest difference, relative to the outputs' spread (max - min).
    """

    top1: float
    deviation: float

    def holds(self, *, random_weights: bool) -> bool:
        """Whether both are within their bounds.

        Args:
            random_weights: of the model: its classes mean nothing and lie close together, so that
                only the deviation counts.
        """
        same = random_weights or self.top1 >= MIN_TOP1_AGREEMENT
        return same and self.deviation <= REDUCED_TOLERANCE


@dataclass(frozen=True)
class Trial:
    """Inputs that ways to run a model are compared on.

    Attributes:
        inputs: (n, ...), of the model's one input.
        source: where they come from, as a report says it.
        pictures: some as they would be sent, encoded; none where the model takes none.
        approximate: the inputs as `--approximate-decoding` makes them; None where the pictures are
            not the user's.
    """

    inputs: Array
    source: str
    pictures: tuple[bytes, ...] = ()
    approximate: Array | None = None


def pictures_trial(model: Model, folder: Path) -> Trial:
    """Read the pictures of a folder, at most `MAX_PICTURES`, in the order of their paths.

    Raises:
        InvalidPictureError: there is none, one cannot be read, or the model takes no pictures.
    """
    if not model.takes_pictures:
        raise InvalidPictureError("the model carries no preprocessing: it takes no pictures")

    suffixes = {f".{name.lower()}" for name in (*FORMATS, "JPG")}
    paths = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file()
    )[:MAX_PICTURES]
    if not paths:
        raise InvalidPictureError(f"there is no picture in {folder}")
    return Trial(
        np.stack([_read_row(model, path) for path in paths]),
        f"{len(paths)} pictures of {folder}",
        tuple(map(_read_bytes, paths[:KEPT_PICTURES])),
        np.stack([_read_row(model, path, approximate=True) for path in paths]),
    )


def _read_row(model: Model, path: Path, *, approximate: bool = False) -> Array:
    encoded = _read_bytes(path)
    try:
        return read_picture(model, encoded, approximate=approximate)
    except InvalidPictureError as error:
        raise InvalidPictureError(f"{path}: {error}") from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidPictureError(f"{path}: {error.strerror}") from error


def read_picture(model: Model, encoded: bytes, *, approximate: bool = False) -> Array:
    """Turn a picture into a row of the model's input, as the server does.

    Args:
        model: that takes pictures.
        encoded: the picture.
        approximate: see `to_pixels`.

    Raises:
        InvalidPictureError: it cannot be used.
    """
    preprocessing = model.card.preprocessing
    assert preprocessing is not None
    pixels = model.signature.inputs[0].datatype == "UINT8"
    read = to_pixels if pixels else to_input
    return read(encoded, preprocessing, MAX_PIXELS, approximate=approximate)


def seeded_trial(model: Model) -> Trial:
    """Make inputs of noise, as the golden ones are made: pictures of the user's own tell more."""
    spec = model.signature.inputs[0]
    shape = (SEEDED_INPUTS, *(length or 224 for length in spec.shape[1:]))
    noise: Array = golden_input(0, shape)
    if spec.datatype == "UINT8":
        noise = np.clip(noise * 64 + 128, 0, 255)
    preprocessing = model.card.preprocessing
    return Trial(
        noise.astype(DTYPES[spec.datatype]),
        f"{SEEDED_INPUTS} inputs of seeded noise",
        () if preprocessing is None else (_smooth_picture(preprocessing),),
    )


def _smooth_picture(preprocessing: Preprocessing) -> bytes:
    """A JPEG that takes about as long to decode as a photograph of that size.

    It is as wide as two inputs and as high as one and a half.
    """
    height, width = preprocessing.size
    shape = (max(1, height // 4), max(1, width // 3), 3)
    grain = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    size = (width * 2, height * 3 // 2)
    picture = Image.fromarray(grain).resize(size, Image.Resampling.BICUBIC)
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=90)
    return encoded.getvalue()


def compare(outputs: Sequence[Array], expected: Sequence[Array]) -> Agreement:
    """Compare outputs of the same inputs.

    Args:
        outputs: of the way to run that is on trial; the first is (n, classes).
        expected: of fp32.
    """
    same = outputs[0].argmax(axis=-1) == expected[0].argmax(axis=-1)
    return Agreement(
        top1=float(np.mean(same)),
        deviation=max(map(relative_deviation, outputs, expected)),
    )
