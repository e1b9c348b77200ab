"""Intervals: which stretch of one image axis a position of a feature map sees."""

from dataclasses import dataclass
from fractions import Fraction

from convlens.analysis.sliding_window import SlidingWindow

Number = int | Fraction


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
    def centre(self) -> Fraction:
        """The middle of what position 0 sees."""
        return Fraction(self.start) + Fraction(self.size - 1, 2)

    def slid(self, window: SlidingWindow) -> "Interval | None":
        """What an output of the window sees, this being what its inputs see.

        size' = size + (k' - 1) * stride, stride' = stride * S, start' = start - pad * stride.

        Returns:
            None where the padding is not known.

        Source: Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural
            Networks", Distill 2019, equations 1 to 4.
        """
        if window.pad_begin is None:
            return None
        return Interval(
            size=self.size + (window.extent - 1) * self.stride,
            stride=self.stride * window.stride,
            start=self.start - window.pad_begin * self.stride,
        )

    def spaced(self, step: int) -> "Interval":
        """What is left where only every `step`-th position is kept."""
        return Interval(self.size, self.stride * step, self.start)

    def widened(self, positions: int) -> "Interval":
        """What `positions` neighbours see together."""
        return Interval(self.size + (positions - 1) * self.stride, self.stride, self.start)


def is_aligned(first: Interval, second: Interval) -> bool:
    """Whether at every position both intervals have the same centre."""
    return first.stride == second.stride and first.centre == second.centre


def union(first: Interval, second: Interval) -> Interval:
    """What a position sees that sees both; where the strides differ, the larger of the two.

    Intervals of different strides drift apart, so that their union is no interval of a fixed size:
    then the result has the largest size, the smallest stride and the smallest start.
    """
    start = min(first.start, second.start)
    if first.stride == second.stride:
        stop = max(first.start + first.size, second.start + second.size)
        return Interval(stop - start, first.stride, start)
    return Interval(max(first.size, second.size), min(first.stride, second.stride), start)
