"""Digits: how the index along one axis of a tensor walks along the image.

A tensor's axis need not be an image axis: a Flatten merges channels, rows and columns into one
axis, a Reshape splits rows into blocks. So an axis is a row-major run of digits, each of which
either walks along an image axis or does not. Merging and splitting axes then only regroups digits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from convlens.analysis.shape import Dim

# More positions than any block of a picture holds.
_MAX_OFFSETS = 2**20


@dataclass(frozen=True)
class Digit:
    """One digit of the index along a tensor's axis.

    Attributes:
        length: how many values it takes.
        image_axis: the image axis along which it walks; None where it walks along none.
        step: by how many positions of the image axis's view it moves.
        grid: where only some of the values are positions of the image and the others see none of
            it, as a class token beside the patches, the digits of the former.
        before: how many of the latter stand before the grid.
    """

    length: Dim
    image_axis: int | None = None
    step: int = 1
    grid: tuple["Digit", ...] = ()
    before: int = 0


Axis = tuple[Digit, ...]


def walking_digits(axis: Axis) -> list[Digit]:
    """The digits of an axis that walk along the image, wherever they stand."""
    if len(axis) == 1 and not axis[0].grid:
        return [] if axis[0].image_axis is None else [axis[0]]
    digits = (inner for digit in axis for inner in digit.grid or (digit,))
    return [digit for digit in digits if digit.image_axis is not None]


def offsets_of(digits: Sequence[Digit]) -> tuple[int, ...] | None:
    """The positions that the digits reach together; None where not known, or too many."""
    lengths = [digit.length for digit in digits if isinstance(digit.length, int)]
    if len(lengths) < len(digits) or prod(lengths) > _MAX_OFFSETS:
        return None
    indices = product(*map(range, lengths))
    steps = [digit.step for digit in digits]
    return tuple(
        sum(i * step for i, step in zip(index, steps, strict=True)) for index in indices
    )  # fmt: skip


def span(digits: Sequence[Digit]) -> int | None:
    """The number of positions up to the last that the digits reach; None where not known."""
    lengths = [digit.length for digit in digits if isinstance(digit.length, int)]
    if len(lengths) < len(digits):
        return None
    steps = (digit.step for digit in digits)
    return 1 + sum((length - 1) * step for length, step in zip(lengths, steps, strict=True))


def repeated(axis: Axis, length: Dim) -> Axis:
    """An axis of length 1 broadcast; what walks along the image goes on doing so on the spot."""
    walked = [digit.image_axis for digit in axis if digit.image_axis is not None]
    return (Digit(length, walked[0], step=0),) if walked else (Digit(length),)


def axis_length(axis: Axis) -> Dim:
    """The length of an axis, "?" where one of several digits is symbolic."""
    if len(axis) == 1:
        return axis[0].length
    lengths = [digit.length for digit in axis if isinstance(digit.length, int)]
    return prod(lengths) if len(lengths) == len(axis) else "?"
