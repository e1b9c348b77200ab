"""Coverage: which positions of a map are really read, holes that dilation leaves included.

A receptive field has a size, but a dilated kernel skips positions inside of it. Here the positions
that reach each layer are followed one by one, as the bits of an integer, from where the map's size
last changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from convlens.analysis.kernel_stack import windows_of
from convlens.analysis.layer import Layer
from convlens.analysis.linter import Subject
from convlens.analysis.sliding_window import SlidingWindow


@dataclass(frozen=True)
class Coverage:
    """The positions that position 0 reads along one axis.

    Attributes:
        bits: bit i stands for the position `start` + i; the lowest is set.
        start: the first position that is read.
    """

    bits: int
    start: int

    @property
    def size(self) -> int:
        """From the first position that is read to the last."""
        return self.bits.bit_length()

    @property
    def holes(self) -> int:
        """How many positions in between are not read."""
        return self.size - self.bits.bit_count()

    def slid(self, window: SlidingWindow) -> "Coverage":
        """What an output of the window reads, its stride being 1."""
        bits = 0
        for tap in range(window.kernel):
            bits |= self.bits << tap * window.dilation
        return Coverage(bits, self.start - (window.pad_begin or 0))

    def united(self, other: "Coverage") -> "Coverage":
        """What is read on either of two paths."""
        start = min(self.start, other.start)
        bits = self.bits << self.start - start | other.bits << other.start - start
        return Coverage(bits, start)


_ITSELF = Coverage(1, 0)

# In positions; following more of them one by one would take time and memory without measure.
_MAX_SIZE = 2**14

# Per axis; None where it cannot be followed.
PerAxisCoverage = tuple[Coverage | None, ...]


def trace_coverage(subject: Subject) -> dict[int, PerAxisCoverage]:
    """What each layer reads of the map at which its resolution began, by the layer's index."""
    coverage: dict[int, PerAxisCoverage] = {}
    for layer in subject.report.layers:
        axes = range(len(layer.receptive_field.axes))
        before = [coverage[maker.index] for maker in subject.before(layer)]
        coverage[layer.index] = tuple(_covered(layer, axis, before) for axis in axes)
    return coverage


def _covered(layer: Layer, axis: int, before: Sequence[PerAxisCoverage]) -> Coverage | None:
    paths = [seen[axis] for seen in before if axis < len(seen)]
    if not paths:
        seen = _ITSELF
    elif None in paths:
        return None
    else:
        known = [path for path in paths if path is not None]
        seen = known[0]
        for path in known[1:]:
            seen = seen.united(path)
    windows = windows_of(layer)
    if windows is None or axis >= len(windows):
        return seen
    window = windows[axis]
    if window.stride > 1:
        return _ITSELF
    return seen.slid(window) if seen.size + window.extent <= _MAX_SIZE else None
