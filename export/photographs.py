"""Pictures to try a network on where the user has given none: pieces of two real photographs."""

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn import datasets

_SMALLEST_PIECE = 0.3  # of a photograph's side


def pieces(count: int, color: str, size: tuple[int, int], seed: int) -> Iterator[Image.Image]:
    """Cut pieces of random place, size and orientation out of scikit-learn's two photographs.

    Args:
        count: how many.
        color: a mode of Pillow's, "RGB" or "L".
        size: (height, width) in pixels that each piece is resized to.
        seed: of the cuts.
    """
    rng = np.random.default_rng(seed)
    photographs: Any = datasets.load_sample_images().images
    for _, photograph in zip(range(count), cycle(photographs), strict=False):
        picture = Image.fromarray(photograph).convert(color)
        height, width = size
        sides = rng.uniform(_SMALLEST_PIECE, 1.0, 2) * picture.size
        left, top = rng.uniform(0.0, 1.0, 2) * (picture.size - sides)
        piece = picture.resize(
            (width, height),
            Image.Resampling.BILINEAR,
            box=(left, top, left + sides[0], top + sides[1]),
        )
        yield piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else piece


def photograph_input(batch_size: int, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """A batch of pieces as a network's input, of zero mean and unit deviation.

    Args:
        batch_size: how many pictures.
        shape: (channels, height, width) of one; any number of channels but 3 repeats grey.
        seed: of the cuts.

    Returns:
        (batch_size, *shape).
    """
    channels, height, width = shape
    color = "RGB" if channels == 3 else "L"
    pictures = [np.asarray(piece) for piece in pieces(batch_size, color, (height, width), seed)]
    values = np.stack(pictures).reshape(batch_size, height, width, -1).astype(np.float32)
    values = (values - values.mean()) / values.std()
    planes = np.broadcast_to(values, (batch_size, height, width, channels))
    return np.array(planes.transpose(0, 3, 1, 2), order="C")
