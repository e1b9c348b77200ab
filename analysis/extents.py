"""Extents: what every single position of a map sees along one image axis of one picture.

Only this follows positions one by one, and so needs numpy: who follows the formulas alone does not
import it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convlens.analysis.reach import Border, Reach

Positions = np.ndarray[tuple[int], np.dtype[np.int64]]
Indices = np.ndarray[tuple[int], np.dtype[np.intp]]

# Beyond every pixel: what sees nothing has its first pixel here and its last one at -1.
NOTHING = 2**40


@dataclass(frozen=True, eq=False)
class Extents:
    """The first and the last pixel that each position sees, within the picture.

    Attributes:
        first: NOTHING where the position sees no pixel.
        last: -1 where the position sees no pixel.
    """

    first: Positions
    last: Positions

    def __len__(self) -> int:
        """The number of positions."""
        return len(self.first)

    @property
    def has_dark(self) -> bool:
        """Whether some position sees nothing."""
        return bool((self.last < 0).any())

    def is_dark_where(self, other: "Extents") -> bool:
        """Whether it sees nothing at just those positions where the other one sees nothing."""
        return len(self) == len(other) and bool(((self.last < 0) == (other.last < 0)).all())

    def through(self, reach: Reach, length: int) -> "Extents":
        """What each of `length` outputs sees that reads these."""
        # What is read at -1 stands behind the last position and sees nothing.
        first, last = np.append(self.first, NOTHING), np.append(self.last, -1)
        sources = _sources(reach, length, len(self))
        return Extents(
            np.minimum.reduce([first[source] for source in sources]),
            np.maximum.reduce([last[source] for source in sources]),
        )

    def followed_by(self, others: Sequence["Extents"]) -> "Extents":
        """What the positions of several maps see that lie one behind the other."""
        return Extents(
            np.concatenate([self.first, *(other.first for other in others)]),
            np.concatenate([self.last, *(other.last for other in others)]),
        )

    def __or__(self, other: "Extents") -> "Extents":
        """What positions see that see both."""
        return Extents(np.minimum(self.first, other.first), np.maximum(self.last, other.last))


def pixel_extents(length: int) -> Extents:
    """Every pixel sees itself."""
    return Extents(np.arange(length), np.arange(length))


def dark_extents(length: int) -> Extents:
    """Positions that see nothing."""
    return Extents(np.full(length, NOTHING), np.full(length, -1))


def _sources(reach: Reach, output: int, length: int) -> list[Indices]:
    """The inputs that each output reads.

    Args:
        reach: what each of them reads.
        output: the number of outputs.
        length: the number of inputs.

    Returns:
        One array for each tap: for every output the input that it reads, -1 for none.
    """
    widest = max(1, *map(len, reach.taps))
    # A phase with fewer taps repeats one of its own; one without any reads far outside.
    outside = -(length + output * abs(reach.advance) + 1)
    padded = np.array(
        [(*taps, *[taps[0] if taps else outside] * (widest - len(taps))) for taps in reach.taps],
        np.intp,
    )
    turn, phase = np.divmod(np.arange(output), len(reach.taps))
    return [
        _inside(turn * reach.advance + padded[phase, tap], length, reach.border)
        for tap in range(widest)
    ]


def _inside(positions: Indices, length: int, border: Border) -> Indices:
    match border:
        case "nothing":
            inside = np.where((positions >= 0) & (positions < length), positions, -1)
        case "edge":
            inside = np.clip(positions, 0, length - 1)
        case "wrap":
            inside = np.remainder(positions, length)
        case "reflect":
            turned = np.abs(positions) % max(2 * (length - 1), 1)
            inside = np.minimum(turned, 2 * (length - 1) - turned)
    return inside
