"""Reaches: which positions of its input an operator reads for each position of its output.

Along one axis every operator that moves or joins positions does so in a pattern that repeats: a
window of stride 2 moves on by 2 inputs with each output, an enlargement by 2 moves on by 1 input
with every second output. So one description serves Conv, pooling, ConvTranspose, Resize, Pad,
Slice and the rest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Literal

from convlens.analysis.number import Number, plain
from convlens.analysis.sliding_window import SlidingWindow

# What an output reads where a tap lies outside the input: nothing, the outermost position, the
# input mirrored at its outermost position, or the input's other end.
# A longer period is no real network's; that of a hostile file takes minutes and all memory.
MAX_PERIOD = 2**14

Border = Literal["nothing", "edge", "reflect", "wrap"]


@dataclass(frozen=True)
class Reach:
    """Output q * period + r reads the inputs q * advance + tap, for each tap of taps[r].

    Attributes:
        taps: for each of `period` neighbouring outputs the inputs that it reads, in ascending
            order; may be empty. Those of a window are a range, which takes no memory, however
            large the window is.
        advance: by how many inputs the taps move from one period to the next.
        border: what a tap outside the input reads.
    """

    taps: tuple[Sequence[int], ...]
    advance: int = 1
    border: Border = "nothing"

    @cached_property
    def rate(self) -> Number:
        """The inputs that the taps move on with one output, on average; 0 without an output."""
        if not self.taps:
            return 0
        return plain(Fraction(self.advance, len(self.taps)))

    @cached_property
    def first(self) -> Number:
        """The least number such that no output i reads anything before rate * i + first."""
        firsts = (taps[0] - r * self.rate for r, taps in enumerate(self.taps) if taps)
        return plain(min(firsts, default=0))

    @cached_property
    def last(self) -> Number:
        """The greatest number such that an output i reads nothing beyond rate * i + last."""
        lasts = (taps[-1] - r * self.rate for r, taps in enumerate(self.taps) if taps)
        return plain(max(lasts, default=0))

    @property
    def is_pointwise(self) -> bool:
        """Whether every output reads just the input at its own position."""
        if self.advance != 1 or self.border != "nothing" or not self.is_even:
            return False
        return self.taps[0][0] == self.taps[0][-1] == 0

    @property
    def is_even(self) -> bool:
        """Whether all outputs read alike, so that rate, first and last say all of it."""
        return len(self.taps) == 1 and len(self.taps[0]) > 0


@lru_cache(maxsize=256)  # a pure function; networks have few different windows
def window_reach(window: SlidingWindow) -> Reach | None:
    """What Conv or pooling reads; None where the padding is not known."""
    if window.pad_begin is None:
        return None
    taps = range(-window.pad_begin, window.extent - window.pad_begin, window.dilation)
    return Reach((taps,), window.stride)


def transposed_reach(window: SlidingWindow) -> Reach | None:
    """What ConvTranspose reads: input t reaches output t * stride - pad + dilation * tap.

    Returns:
        None where the padding is not known, or the window is larger than any that is meant.

    Source: ONNX operator specification, ConvTranspose.
    """
    if window.pad_begin is None or max(window.kernel, window.stride) > MAX_PERIOD:
        return None
    taps: list[list[int]] = [[] for _ in range(window.stride)]
    for tap in reversed(range(window.kernel)):
        turn, phase = divmod(window.dilation * tap - window.pad_begin, window.stride)
        taps[phase].append(-turn)
    return Reach(tuple(map(tuple, taps)), advance=1)


def strided_reach(begin: int, step: int = 1, border: Border = "nothing") -> Reach:
    """What Slice and Pad read: output i the input begin + step * i."""
    return Reach(((begin,),), step, border)


def listed_reach(positions: Iterable[int]) -> Reach:
    """What Gather reads: output i the input positions[i]."""
    return Reach(tuple((position,) for position in positions), advance=0)
