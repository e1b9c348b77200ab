"""Pictures of a user's own: one folder a class."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, resize

from convlens.analysis.card import Preprocessing
from convlens.export.architecture import Progress
from convlens.export.digits import DATASET, LABELS, load_digits
from convlens.export.errors import TrainingError
from convlens.export.examples import FEWEST_PER_CLASS

_FEWEST_CLASSES = 2


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures of the size that a network takes, and the class of each.

    Attributes:
        dataset: what they are called together.
        names: of the classes, by index.
        pixels: (count, height, width, channels) bytes.
        labels: (count,) indices into `names`.
        skipped: a line for each file that could not be read: its name, and why.
    """

    dataset: str
    names: tuple[str, ...]
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


def read_digits(how: Preprocessing) -> LabelledPictures:
    """Scikit-learn's digits as the network wants its pictures."""
    digits = load_digits()
    pixels = [to_pixels(Image.fromarray(picture), how) for picture in digits.pictures]
    return LabelledPictures(DATASET, LABELS, np.stack(pixels), digits.labels)


def read_folder(folder: Path, how: Preprocessing, progress: Progress) -> LabelledPictures:
    """Read every picture of every class.

    Args:
        folder: has a folder for each class, of the class's name, with the pictures in it. What
            begins with a dot is passed over.
        how: what the network does to its pictures.
        progress: called with (done, total) after each file.

    Raises:
        TrainingError: there is no such folder, it has fewer than two classes, or a class has too
            few files that can be read.
    """
    classes = _class_folders(folder)
    files = [_visible(path) for path in classes]
    for path, members in zip(classes, files, strict=True):
        _require_enough(path, len(members), [])
    total, done = sum(map(len, files)), 0
    pixels: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    skipped: list[str] = []
    for label, (path, members) in enumerate(zip(classes, files, strict=True)):
        unreadable: list[str] = []
        for file in members:
            try:
                pixels.append(to_pixels(_open(file), how))
                labels.append(label)
            # Whatever a broken file makes of Pillow's many decoders.
            except Exception as error:  # noqa: BLE001
                unreadable.append(f"{path.name}/{file.name}: {_reason(error)}")
            done += 1
            progress(done, total)
        _require_enough(path, len(members) - len(unreadable), unreadable)
        skipped += unreadable
    return LabelledPictures(
        dataset=folder.resolve().name,
        names=tuple(path.name for path in classes),
        pixels=np.stack(pixels),
        labels=np.array(labels, dtype=np.int64),
        skipped=tuple(skipped),
    )


def to_pixels(picture: Image.Image, how: Preprocessing) -> NDArray[np.uint8]:
    """Convert, resize and crop one picture: (height, width, channels) bytes."""
    resized = resize(
        picture.convert(how.color),
        how.resize if isinstance(how.resize, int) else list(how.resize),
        InterpolationMode(how.interpolation),
    )
    cropped = resized if how.crop is None else center_crop(resized, list(how.crop))
    return np.asarray(cropped, dtype=np.uint8).reshape(*how.size, how.channels)


def normalised(pixels: NDArray[np.uint8], how: Preprocessing) -> NDArray[np.float32]:
    """Make (count, channels, height, width) inputs of (count, height, width, channels) pixels."""
    std = np.asarray(how.std)
    factor = (how.scale / std).astype(np.float32)
    offset = (np.asarray(how.mean) / std).astype(np.float32)
    values = pixels * factor - offset
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def _class_folders(folder: Path) -> list[Path]:
    try:
        classes = sorted(path for path in _entries(folder) if path.is_dir())
    except OSError as error:
        raise TrainingError(f"cannot read the folder {folder}: {error.strerror}") from error
    for path in classes:
        _require_utf8(path.name)
    if len(classes) < _FEWEST_CLASSES:
        found = f"only {classes[0].name}" if classes else "none"
        raise TrainingError(
            f"{folder} must have a folder for each of at least {_FEWEST_CLASSES} classes, "
            f"has {found}"
        )
    return classes


def _require_utf8(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise TrainingError(
            f"the folder of a class must have a UTF-8 name, not {name!a}"
        ) from error


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in _entries(folder) if path.is_file())
    except OSError as error:
        raise TrainingError(f"cannot read the folder {folder}: {error.strerror}") from error


def _entries(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _require_enough(folder: Path, readable: int, unreadable: list[str]) -> None:
    if readable >= FEWEST_PER_CLASS:
        return
    line = (
        f"the class {folder.name} has too few pictures: {readable}, "
        f"at least {FEWEST_PER_CLASS} are needed"
    )
    if unreadable:
        line += f" (cannot be read: {'; '.join(unreadable)})"
    raise TrainingError(line)


def _open(file: Path) -> Image.Image:
    with Image.open(file) as picture:
        return ImageOps.exif_transpose(picture)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a picture"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(reason.split())
