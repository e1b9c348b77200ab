"""Clipping: how much of the picture a unit sees, and how much of its window is padding."""

from dataclasses import dataclass
from fractions import Fraction

from convlens.analysis.interval import Span
from convlens.analysis.number import Number
from convlens.analysis.receptive_field import ReceptiveField


@dataclass(frozen=True)
class Clipped:
    """What one unit sees of one picture.

    Attributes:
        begin: the first pixel that it sees, on each axis.
        end: the pixel after the last one, on each axis; not above begin where it sees none.
        window: the area of its receptive field before clipping, in pixels.
        picture: the area of the picture, in pixels.
    """

    begin: tuple[Number, ...]
    end: tuple[Number, ...]
    window: Number
    picture: int

    @property
    def seen(self) -> Number:
        """The area that it sees, in pixels."""
        area: Number = 1
        for begin, end in zip(self.begin, self.end, strict=True):
            area *= max(end - begin, 0)
        return area

    @property
    def coverage(self) -> Fraction:
        """The share of the picture that it sees."""
        return Fraction(self.seen) / self.picture

    @property
    def padding(self) -> Fraction:
        """The share of its window that lies outside the picture."""
        return 1 - Fraction(self.seen) / Fraction(self.window)


def clipped(
    field: ReceptiveField, picture: tuple[int, ...], unit: tuple[int, ...]
) -> Clipped | None:
    """Clip the window of a unit to what the picture and the maps before it have.

    An axis without a local path is seen as a whole.

    Args:
        field: of the unit's map.
        picture: the spatial size of the picture, in pixels, the axes in the field's order.
        unit: its position on the map, the axes in the field's order.

    Returns:
        None where no path is local.
    """
    if field.size is None or field.stride is None or field.start is None:
        return None
    begins, ends = list[Number](), list[Number]()
    window: Number = 1
    spans = field.spans or (None,) * len(picture)
    per_axis = zip(field.size, field.stride, field.start, picture, unit, spans, strict=True)
    for size, stride, start, length, position, span in per_axis:
        if size is None or stride is None or start is None:
            size, stride, start = length, 0, 0
        first = start + stride * position
        whole = Span(0, length)
        seen = Span(first, first + size) & (whole if span is None else whole & span)
        begins.append(seen.begin)
        ends.append(seen.end)
        window *= size
    area = 1
    for length in picture:
        area *= length
    return Clipped(tuple(begins), tuple(ends), window, area)


def centre(size: tuple[int, ...]) -> tuple[int, ...]:
    """The unit in the middle of a map, the later one of two."""
    return tuple(length // 2 for length in size)


def corner(size: tuple[int, ...]) -> tuple[int, ...]:
    """The unit in the first corner of a map."""
    return tuple(0 for _ in size)
