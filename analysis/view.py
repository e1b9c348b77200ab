"""Views: what the positions of a map see along one image axis, by formula and one by one.

The formula holds for every size of picture and speaks of pixels before clipping. The extents are
the truth for one size: what each position sees of that picture and no more. They cost a walk over
all positions, so that they are followed only where somebody wants to compare them with a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from convlens.analysis.interval import Interval, Number, is_aligned, union
from convlens.analysis.reach import Reach, strided_reach

Positions = np.ndarray[tuple[int], np.dtype[np.int64]]

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

    def through(self, reach: Reach, length: int) -> "Extents":
        """What each of `length` outputs sees that reads these."""
        # What is read at -1 stands behind the last position and sees nothing.
        first, last = np.append(self.first, NOTHING), np.append(self.last, -1)
        sources = reach.sources(length, len(self))
        return Extents(
            np.minimum.reduce([first[source] for source in sources]),
            np.maximum.reduce([last[source] for source in sources]),
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


@dataclass(frozen=True, eq=False)
class View:
    """What the positions of a map see along one image axis, over the paths that stay local.

    Attributes:
        intervals: a position sees what it sees by all of them; each has a stride of its own.
        extents: the same one position after the other; None where it is not followed, or known
            only to be covered by the intervals.
        is_tight: whether an interval that lies in the picture is what is seen there, and does not
            merely cover it.
    """

    intervals: tuple[Interval, ...]
    extents: Extents | None = None
    is_tight: bool = True

    @property
    def interval(self) -> Interval:
        """What is reported: the largest size, the smallest stride and start of all intervals."""
        return reduce(union, self.intervals)

    def through(self, reach: Reach, length: int | None) -> "View":
        """What the outputs of an operator see that reads these.

        Args:
            reach: what it reads.
            length: the number of its outputs; None where it is not known.
        """
        if reach.is_pointwise and (self.extents is None or len(self.extents) == length):
            return self
        extents = None
        if self.extents is not None and length is not None:
            extents = self.extents.through(reach, length)
        return View(
            intervals=tuple(interval.through(reach) for interval in self.intervals),
            extents=extents,
            is_tight=self.is_tight and reach.is_even and reach.border == "nothing",
        )

    def frozen(self, length: int | None) -> "View":
        """What `length` positions see that all see what the only position of this one sees."""
        extents = None
        if self.extents is not None and length is not None and len(self.extents):
            extents = self.extents.through(strided_reach(0, 0), length)
        return View(tuple(interval.at(0) for interval in self.intervals), extents, self.is_tight)

    def loosened(self) -> "View":
        """The view where positions see at most this."""
        return View(self.intervals, None, is_tight=False)


def are_aligned(views: Sequence[View]) -> bool:
    """Whether at every position all views have the same centre."""
    intervals = [interval for view in views for interval in view.intervals]
    return all(is_aligned(intervals[0], interval) for interval in intervals[1:])


def united(views: Sequence[View]) -> View:
    """What positions see that see all of the views."""
    first, *rest = views
    if all(view is first for view in rest):
        return first
    by_stride: dict[Number, Interval] = {}
    for interval in (interval for view in views for interval in view.intervals):
        known = by_stride.get(interval.stride)
        by_stride[interval.stride] = interval if known is None else union(known, interval)
    known_extents = [view.extents for view in views if view.extents is not None]
    extents = None
    if len(known_extents) == len(views) and len(set(map(len, known_extents))) == 1:
        extents = reduce(Extents.__or__, known_extents)
    return View(
        tuple(by_stride.values()),
        extents,
        is_tight=len(by_stride) == 1 and all(view.is_tight for view in views),
    )


def side_by_side(pieces: Sequence[tuple[View | None, int]]) -> View | None:
    """What the positions of several maps see that lie one behind the other along the axis.

    Where the pieces do not continue each other evenly, the interval covers them all.

    Args:
        pieces: each with its length; None for one that sees no pixel.

    Returns:
        None where no piece sees a pixel.
    """
    moved, offset, tight = [], 0, True
    for view, length in pieces:
        if view is None:
            tight = False
        else:
            moved += [interval.through(strided_reach(-offset)) for interval in view.intervals]
            tight &= view.is_tight
        offset += length
    if not moved:
        return None
    together = united([View((interval,)) for interval in moved])
    parts = [
        dark_extents(length) if view is None else view.extents
        for view, length in pieces
    ]  # fmt: skip
    whole = [part for part in parts if part is not None]
    extents = None
    if len(whole) == len(parts):
        extents = Extents(
            np.concatenate([part.first for part in whole]),
            np.concatenate([part.last for part in whole]),
        )
    return View(together.intervals, extents, tight and len(set(moved)) == 1)
