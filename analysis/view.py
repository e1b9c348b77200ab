"""Views: what the positions of a map see along one image axis, by formula and one by one.

The formula holds for every size of picture and speaks of pixels before clipping. The extents are
the truth for one size: what each position sees of that picture and no more. They cost a walk over
all positions, so that they are followed only where somebody wants to compare them with a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from convlens.analysis.interval import Interval, is_aligned, union
from convlens.analysis.number import Number
from convlens.analysis.reach import Reach, strided_reach

if TYPE_CHECKING:
    from convlens.analysis.extents import Extents


@dataclass(frozen=True, eq=False)
class View:
    """What the positions of a map see along one image axis, over the paths that stay local.

    Attributes:
        intervals: a position sees what it sees by all of them; each has a stride of its own.
        extents: the same one position after the other; None where it is not followed, or known
            only to be covered by the intervals.
        is_tight: whether an interval that lies in the picture is what is seen there, and does not
            merely cover it.
        is_mirrored: whether some padding repeats pixels, so that positions whose interval leaves
            the picture see other pixels instead.
    """

    intervals: tuple[Interval, ...]
    extents: "Extents | None" = None
    is_tight: bool = True
    is_mirrored: bool = False

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
            is_tight=self.is_tight and reach.is_even,
            is_mirrored=self.is_mirrored or reach.border != "nothing",
        )

    def frozen(self, length: int | None) -> "View":
        """What `length` positions see that all see what the only position of this one sees."""
        extents = None
        if self.extents is not None and length is not None and len(self.extents):
            extents = self.extents.through(strided_reach(0, 0), length)
        intervals = tuple(interval.at(0) for interval in self.intervals)
        return replace(self, intervals=intervals, extents=extents)

    def loosened(self) -> "View":
        """The view where positions see at most this."""
        return replace(self, extents=None, is_tight=False)


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
        extents = reduce(or_, known_extents)
    return View(
        tuple(by_stride.values()),
        extents,
        is_tight=len(by_stride) == 1 and all(view.is_tight for view in views),
        is_mirrored=any(view.is_mirrored for view in views),
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
    extents = _extents_side_by_side(pieces)
    return View(
        together.intervals,
        extents,
        is_tight=tight and len(set(moved)) == 1,
        is_mirrored=any(view.is_mirrored for view, _ in pieces if view is not None),
    )


def _extents_side_by_side(pieces: Sequence[tuple[View | None, int]]) -> "Extents | None":
    if any(view is not None and view.extents is None for view, _ in pieces):
        return None
    # Imported here because it brings in numpy, and few follow single positions.
    from convlens.analysis.extents import dark_extents

    first, *others = (
        dark_extents(length) if view is None or view.extents is None else view.extents
        for view, length in pieces
    )
    return first.followed_by(others)
