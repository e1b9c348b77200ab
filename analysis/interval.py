"""Intervals: which stretch of one image axis a position of a feature map sees."""

from dataclasses import dataclass

from convlens.analysis.number import Number, plain
from convlens.analysis.reach import Reach


@dataclass(frozen=True)
class Span:
    """The pixels begin ... end - 1 of an image axis; none where end is not above begin."""

    begin: Number
    end: Number

    def __and__(self, other: "Span") -> "Span":
        """The pixels of both."""
        if self.begin >= other.begin and self.end <= other.end:
            return self
        return Span(max(self.begin, other.begin), min(self.end, other.end))

    def __or__(self, other: "Span") -> "Span":
        """The pixels from the first of either to the last of either."""
        return Span(min(self.begin, other.begin), max(self.end, other.end))

    def holds(self, other: "Span") -> bool:
        """Whether the other one lies within."""
        return self.begin <= other.begin and other.end <= self.end


@dataclass(frozen=True)
class Interval:
    """Position i sees the pixels start + stride * i ... start + stride * i + size - 1.

    The pixels are counted before clipping: those outside the image are padding.

    Attributes:
        size: how many pixels one position sees.
        stride: how many pixels lie between what two neighbours see.
        start: the first pixel that position 0 sees; negative under padding.
    """

    size: Number
    stride: Number
    start: Number

    @property
    def double_centre(self) -> Number:
        """Twice the middle of what position 0 sees, in most networks an integer."""
        return 2 * self.start + self.size - 1

    def through(self, reach: Reach) -> "Interval":
        """What an output of an operator sees, this being what its inputs see.

        For a window of extent k', stride S and padding P that is size' = size + (k' - 1) * stride,
        stride' = stride * S, start' = start - P * stride. Where outputs read unevenly, as under an
        enlargement, it is the smallest interval of a fixed size that covers them all.

        Source: Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural
            Networks", Distill 2019, equations 1 to 4.
        """
        # A reversed axis has a negative stride, so that the last tap sees the first pixels.
        near, far = sorted((reach.first * self.stride, reach.last * self.stride))
        return Interval(
            size=plain(self.size + far - near),
            stride=plain(self.stride * reach.rate),
            start=plain(self.start + near),
        )

    def span(self, length: int) -> Span:
        """What `length` positions see together."""
        near, far = sorted((self.start, self.start + self.stride * (length - 1)))
        return Span(near, far + self.size)

    def at(self, position: int) -> "Interval":
        """What one position sees, as an interval of stride 0."""
        return Interval(self.size, 0, self.start + self.stride * position)


def is_aligned(first: Interval, second: Interval) -> bool:
    """Whether at every position both intervals have the same centre."""
    return first.stride == second.stride and first.double_centre == second.double_centre


def union(first: Interval, second: Interval) -> Interval:
    """What a position sees that sees both; where the strides differ, the larger of the two.

    Intervals of different strides drift apart, so that their union is no interval of a fixed size:
    then the result has the largest size, the smallest stride and the smallest start. A branch that
    sees the same from everywhere, its stride 0, has no say in the stride.
    """
    start = min(first.start, second.start)
    if first.stride == second.stride:
        stop = max(first.start + first.size, second.start + second.size)
        return Interval(stop - start, first.stride, start)
    stride = min((first.stride, second.stride), key=lambda stride: (stride == 0, abs(stride)))
    return Interval(max(first.size, second.size), stride, start)
