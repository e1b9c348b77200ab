"""Views: what the positions of a map see along one image axis, by formula and one by one.

The formula holds for every size of picture and speaks of pixels before clipping. The extents are
the truth for one size: what each position sees of that picture and no more. They cost a walk over
all positions, so that they are followed only where somebody wants to compare them with a run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import and_, or_
from typing import TYPE_CHECKING

from convlens.analysis.interval import Interval, Span, is_aligned, union
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
        span: no position sees a pixel outside of it, whatever its interval says: a position that a
            map does not have, because it was cut off or there was no room for another window,
            is padding to whoever reads it. None where the sizes are not known.
        tight: an interval that lies in it is what is seen there, and does not merely cover it; None
            where that holds for none, or nobody asks.
        is_mirrored: whether some padding repeats pixels, so that positions whose interval leaves
            the picture see other pixels instead.
    """

    intervals: tuple[Interval, ...]
    extents: "Extents | None" = None
    span: Span | None = None
    tight: Span | None = None
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
        intervals = tuple([interval.through(reach) for interval in self.intervals])
        span, tight = self.span, self.tight if reach.is_even else None
        if length is None:
            tight = None
        elif span is not None:
            seen = reduce(or_, [interval.span(length) for interval in intervals])
            tight = tight and tight & seen
            # What is mirrored or wrapped into a map is seen from where no interval tells.
            span = span & seen if reach.border in {"nothing", "edge"} else span
        return View(intervals, extents, span, tight, self.is_mirrored or reach.border != "nothing")

    def window(self, position: int) -> Span:
        """What one position sees before clipping."""
        return reduce(or_, [interval.at(position).span(1) for interval in self.intervals])

    def frozen(self, length: int | None) -> "View":
        """What `length` positions see that all see what the only position of this one sees."""
        extents = None
        if self.extents is not None and length is not None and len(self.extents):
            extents = self.extents.through(strided_reach(0, 0), length)
        intervals = tuple(interval.at(0) for interval in self.intervals)
        return replace(self, intervals=intervals, extents=extents)

    def loosened(self) -> "View":
        """The view where positions see at most this."""
        return replace(self, extents=None, tight=None)


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
        span=_joined([view.span for view in views], or_),
        tight=_joined([view.tight for view in views], and_) if len(by_stride) == 1 else None,
        is_mirrored=any(view.is_mirrored for view in views),
    )


def _joined(spans: Sequence[Span | None], join: Callable[[Span, Span], Span]) -> Span | None:
    """The spans joined; None where one is not known."""
    if all(span is spans[0] for span in spans):
        return spans[0]
    known = [span for span in spans if span is not None]
    return reduce(join, known) if len(known) == len(spans) else None


def side_by_side(pieces: Sequence[tuple[View | None, int]]) -> View | None:
    """What the positions of several maps see that lie one behind the other along the axis.

    Where the pieces do not continue each other evenly, the interval covers them all.

    Args:
        pieces: each with its length; None for one that sees no pixel.

    Returns:
        None where no piece sees a pixel.
    """
    moved, offset = [], 0
    for view, length in pieces:
        if view is not None:
            moved += [interval.through(strided_reach(-offset)) for interval in view.intervals]
        offset += length
    if not moved:
        return None
    together = united([View((interval,)) for interval in moved])
    views = [view for view, _ in pieces if view is not None]
    continues = len(set(moved)) == 1 and len(views) == len(pieces)
    return View(
        together.intervals,
        _extents_side_by_side(pieces),
        span=_joined([view.span for view in views], or_),
        tight=_joined([view.tight for view in views], and_) if continues else None,
        is_mirrored=any(view.is_mirrored for view in views),
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
