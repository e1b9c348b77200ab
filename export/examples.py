"""What a network learns from: inputs, and the class of each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VALIDATION_SHARE = 0.2  # of what is not held out
LARGEST_HELD_OUT = 0.5
# Of these, one is held out, one stops the training, and three are learnt from.
FEWEST_PER_CLASS = 5


@dataclass(frozen=True)
class Examples:
    """Inputs of a network and the class of each.

    Attributes:
        inputs: (count, ...): pictures as the network takes them, or features of them.
        labels: (count,) integers, the indices of the classes.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: NDArray[np.int64]) -> "Examples":
        """The examples at these positions."""
        return Examples(self.inputs[indices], self.labels[indices])


@dataclass(frozen=True)
class Split:
    """Three parts without a common member, each with members of every class.

    Attributes:
        training: positions of what is learnt from.
        validation: of what says when to stop, and which epoch's weights to keep.
        held_out: of what the final score is measured on, and nothing else.
    """

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    held_out: NDArray[np.int64]


def split(labels: NDArray[np.int64], held_out: float, seed: int) -> Split:
    """Split each class alike; the same seed, the same parts.

    Args:
        labels: (count,), at least `FEWEST_PER_CLASS` of each class.
        held_out: the share that is kept for the final score: more than 0, at most
            `LARGEST_HELD_OUT`.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label)).tolist()
        for_score = max(1, round(held_out * len(members)))
        for_stopping = max(1, round(VALIDATION_SHARE * (len(members) - for_score)))
        parts[0].extend(members[for_score + for_stopping :])
        parts[1].extend(members[for_score : for_score + for_stopping])
        parts[2].extend(members[:for_score])
    return Split(*(np.array(sorted(part), dtype=np.int64) for part in parts))
