"""Scikit-learn's 1,797 handwritten digits, scaled up to LeNet-5's input, on a fixed split."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn import datasets
from sklearn.model_selection import train_test_split

from convlens.analysis.card import Preprocessing
from convlens.export.examples import Examples

DATASET = "scikit-learn's load_digits"
LABELS = tuple(str(digit) for digit in range(10))
PREPROCESSING = Preprocessing(
    color="L",
    resize=(32, 32),
    interpolation="bilinear",
    antialias=True,
    crop=None,
    scale=1 / 255,
    # Mean and deviation of the training pictures, in two digits.
    mean=(0.31,),
    std=(0.32,),
    layout="NCHW",
)

_BRIGHTEST = 16  # of the dataset's pixels
_HELD_OUT = 0.2
_SPLIT_SEED = 0


@dataclass(frozen=True)
class Digits:
    """Pictures of digits and what they show.

    Attributes:
        pictures: (count, 32, 32) bytes, light ink on black.
        labels: (count,) integers from 0 to 9.
        indices: (count,) positions in the dataset.
    """

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def select(self, indices: NDArray[np.int64]) -> "Digits":
        """The digits at these positions of this value."""
        return Digits(self.pictures[indices], self.labels[indices], self.indices[indices])

    def examples(self) -> Examples:
        """The pictures as the network takes them, (count, 1, 32, 32), with their labels."""
        scaled = self.pictures[:, np.newaxis] * PREPROCESSING.scale
        inputs = (scaled - PREPROCESSING.mean[0]) / PREPROCESSING.std[0]
        return Examples(inputs.astype(np.float32), self.labels)


def load_digits() -> Digits:
    """Load the whole dataset, in its own order."""
    dataset: Any = datasets.load_digits()
    return Digits(
        pictures=np.stack([_enlarge(image) for image in dataset.images]),
        labels=dataset.target.astype(np.int64),
        indices=np.arange(len(dataset.target)),
    )


def split_digits(digits: Digits) -> tuple[Digits, Digits]:
    """Split into a part to train on and a held-out fifth, each class alike, always the same way."""
    training, held_out = train_test_split(
        np.arange(len(digits)),
        test_size=_HELD_OUT,
        stratify=digits.labels,
        random_state=_SPLIT_SEED,
    )
    return digits.select(np.sort(training)), digits.select(np.sort(held_out))


def _enlarge(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    small = Image.fromarray(np.round(image * (255 / _BRIGHTEST)).astype(np.uint8))
    assert isinstance(PREPROCESSING.resize, tuple)
    height, width = PREPROCESSING.resize
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
