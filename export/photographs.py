"""Pictures to try a network on where the user has given none: pieces of real photographs."""

from collections.abc import Iterator, Sequence
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn import datasets

Photographs = Sequence[NDArray[np.uint8]]  # of (height, width, 3) each

_SMALLEST_PIECE = 0.3  # of a photograph's side
_SMALLEST_CUT = 0.4  # of the largest piece of the wanted proportions


def pieces(
    count: int,
    color: str,
    size: tuple[int, int],
    seed: int,
    photographs: Photographs | None = None,
) -> Iterator[Image.Image]:
    """Cut pieces of random place, size, proportions and orientation out of photographs.

    Args:
        count: how many.
        color: a mode of Pillow's, "RGB" or "L".
        size: (height, width) in pixels that each piece is resized to.
        seed: of the cuts.
        photographs: cut in turn; scikit-learn's two if None.
    """
    rng = np.random.default_rng(seed)
    for photograph in _in_turn(photographs, count, color):
        yield _cut(photograph, rng.uniform(_SMALLEST_PIECE, 1.0, 2) * photograph.size, size, rng)


def undistorted_pieces(
    count: int, color: str, size: tuple[int, int], seed: int, photographs: Photographs
) -> Iterator[Image.Image]:
    """Likewise, but in the proportions of the size that they are resized to."""
    rng = np.random.default_rng(seed)
    wanted = np.array(size[::-1])
    for photograph in _in_turn(photographs, count, color):
        largest = wanted * np.min(photograph.size / wanted)
        yield _cut(photograph, rng.uniform(_SMALLEST_CUT, 1.0) * largest, size, rng)


def two_photographs() -> Photographs:
    """The two that scikit-learn brings along: a temple and a flower."""
    images: Photographs = datasets.load_sample_images().images
    return images


def _in_turn(photographs: Photographs | None, count: int, color: str) -> Iterator[Image.Image]:
    for photograph in islice(cycle(photographs or two_photographs()), count):
        yield Image.fromarray(photograph).convert(color)


def _cut(
    photograph: Image.Image,
    sides: NDArray[np.float64],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Image.Image:
    left, top = rng.uniform(0.0, 1.0, 2) * (photograph.size - sides)
    box = (left, top, left + sides[0], top + sides[1])
    piece = photograph.resize(size[::-1], Image.Resampling.BILINEAR, box=box)
    return piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else piece


def photograph_input(
    batch_size: int,
    shape: tuple[int, ...],
    seed: int,
    photographs: Photographs | None = None,
) -> NDArray[np.float32]:
    """A batch of pieces as a network's input, of zero mean and unit deviation.

    Args:
        batch_size: how many pictures.
        shape: (channels, height, width) of one; any number of channels but 3 repeats grey.
        seed: of the cuts.
        photographs: cut in turn; scikit-learn's two if None.

    Returns:
        (batch_size, *shape).
    """
    channels, height, width = shape
    color = "RGB" if channels == 3 else "L"
    cut = pieces(batch_size, color, (height, width), seed, photographs)
    pictures = [np.asarray(piece) for piece in cut]
    values = np.stack(pictures).reshape(batch_size, height, width, -1).astype(np.float32)
    values = (values - values.mean()) / values.std()
    planes = np.broadcast_to(values, (batch_size, height, width, channels))
    return np.array(planes.transpose(0, 3, 1, 2), order="C")
