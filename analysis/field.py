"""Fields: what every position of one tensor sees of the image.

A tensor's axis need not be an image axis: a Flatten merges channels, rows and columns into one
axis, a Reshape splits rows into blocks. So an axis is a row-major run of digits, each of which
either walks along an image axis or does not. Merging and splitting axes then only regroups digits,
and every operator's rule is about the digits on the axes that it touches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from convlens.analysis.interval import Interval, is_aligned, union
from convlens.analysis.shape import Dim, Shape
from convlens.analysis.sliding_window import SlidingWindow


@dataclass(frozen=True)
class Digit:
    """One digit of the index along a tensor's axis.

    Attributes:
        length: how many values it takes.
        image_axis: the image axis along which it walks; None where it walks along none.
        step: by how many positions of the image axis's interval it moves.
    """

    length: Dim
    image_axis: int | None = None
    step: int = 1


Axis = tuple[Digit, ...]


@dataclass(frozen=True)
class Field:
    """What every position of a tensor sees of the image.

    Attributes:
        axes: for each axis of the tensor the digits of its index, the slowest first.
        intervals: for each image axis what a position sees over the paths that stay local, its
            position along that axis being the sum of step * digit; None where no path does.
        global_since: the index of the first node on some path that sees the whole image.
        aligned: whether all branches that met had the same stride and centre.
        complete: whether every path's contribution is known.
    """

    axes: tuple[Axis, ...]
    intervals: tuple[Interval | None, ...]
    global_since: int | None = None
    aligned: bool = True
    complete: bool = True

    def image_axes(self, axis: int) -> set[int]:
        """The image axes along which the tensor's axis walks."""
        return {digit.image_axis for digit in self.axes[axis] if digit.image_axis is not None}

    def with_axis(self, axis: int, digits: Axis) -> "Field":
        """The field with the digits of one axis replaced."""
        return replace(self, axes=(*self.axes[:axis], digits, *self.axes[axis + 1 :]))

    def with_interval(self, image_axis: int, interval: Interval | None) -> "Field":
        """The field with what it sees along one image axis replaced."""
        before, after = self.intervals[:image_axis], self.intervals[image_axis + 1 :]
        return replace(self, intervals=(*before, interval, *after))

    def made_global(self, node: int) -> "Field":
        """The field after `node` let every position see the whole image."""
        since = node if self.global_since is None else min(self.global_since, node)
        return replace(self, global_since=since)

    def forgotten(self) -> "Field":
        """The field with a contribution missing that could not be worked out."""
        return replace(self, complete=False)


def image_field(shape: Shape) -> Field:
    """The field of an image of shape (batch, channels, *spatial): each pixel sees itself."""
    spatial = range(len(shape) - 2)
    return Field(
        axes=(
            (Digit(shape[0]),),
            (Digit(shape[1]),),
            *((Digit(shape[2 + axis], axis),) for axis in spatial),
        ),
        intervals=tuple(Interval(size=1, stride=1, start=0) for _ in spatial),
    )


def unknown_field(fields: Sequence[Field], shape: Shape | None) -> Field:
    """The field behind an operator that is not understood."""
    global_since = [field.global_since for field in fields if field.global_since is not None]
    return Field(
        axes=tuple((Digit(dim),) for dim in shape or ()),
        intervals=(None,) * max(len(field.intervals) for field in fields),
        global_since=min(global_since, default=None),
        aligned=all(field.aligned for field in fields),
        complete=False,
    )


def mixed(field: Field, axis: int, length: Dim, node: int) -> Field:
    """The field after `node` combined all positions along one axis of the tensor.

    An image axis that the tensor still walks along on another axis widens by the positions that
    were combined; one that it does not becomes global.

    Args:
        field: before the combination.
        axis: of the tensor.
        length: of that axis afterwards.
        node: the index of the node, noted where it makes the field global.
    """
    combined = field.axes[axis]
    field = field.with_axis(axis, (Digit(length),))
    remaining = {
        image_axis for index in range(len(field.axes)) for image_axis in field.image_axes(index)
    }
    for digit in combined:
        interval = None if digit.image_axis is None else field.intervals[digit.image_axis]
        if digit.image_axis is None or interval is None:
            continue
        if digit.image_axis in remaining and isinstance(digit.length, int):
            wider = replace(
                interval.spaced(digit.step).widened(digit.length), stride=interval.stride
            )
            field = field.with_interval(digit.image_axis, wider)
        else:
            field = field.with_interval(digit.image_axis, None).made_global(node)
    return field


def slid(field: Field, axis: int, window: SlidingWindow, length: Dim) -> Field:
    """The field after a window slid along one axis of the tensor.

    Args:
        field: before.
        axis: of the tensor.
        window: its geometry along the axis.
        length: of the axis afterwards.
    """
    image_axes = field.image_axes(axis)
    if window.is_pointwise or not image_axes:
        return field if window.is_pointwise else field.with_axis(axis, (Digit(length),))
    image_axis, step = next(
        (digit.image_axis, digit.step) for digit in field.axes[axis] if digit.image_axis is not None
    )
    assert image_axis is not None
    walks = [digit for digits in field.axes for digit in digits if digit.image_axis == image_axis]
    interval = field.intervals[image_axis]
    field = field.with_axis(axis, (Digit(length, image_axis),))
    if interval is None:
        return field
    if len(image_axes) > 1 or len(walks) > 1:
        return field.with_interval(image_axis, None).forgotten()
    after = interval.spaced(step).slid(window)
    field = field.with_interval(image_axis, after)
    return field if after is not None else field.forgotten()


def joined(fields: Sequence[Field]) -> Field:
    """The field of a tensor whose positions combine those of several, broadcast to one shape.

    Along each image axis the local paths are united; those of them that are global already add
    nothing but their `global_since`.
    """
    rank = max(len(field.axes) for field in fields)
    aligned = all(field.aligned for field in fields)
    complete = all(field.complete for field in fields)
    axes = []
    for axis in range(-rank, 0):
        digits, agree = _broadcast([f.axes[axis] for f in fields if len(f.axes) >= -axis])
        axes.append(digits)
        complete &= agree
    intervals = []
    for image_axis in zip_longest(*(field.intervals for field in fields)):
        local = [interval for interval in image_axis if interval is not None]
        together = local[0] if local else None
        for interval in local[1:]:
            assert together is not None
            aligned &= is_aligned(together, interval)
            together = union(together, interval)
        intervals.append(together)
    since = [field.global_since for field in fields if field.global_since is not None]
    return Field(tuple(axes), tuple(intervals), min(since, default=None), aligned, complete)


def _broadcast(axes: Sequence[Axis]) -> tuple[Axis, bool]:
    """The digits that index all of the axes, and whether the axes agree on them."""
    walking = [axis for axis in axes if any(d.image_axis is not None for d in axis)]
    moving = [axis for axis in walking if any(digit.length != 1 for digit in axis)]
    if moving:
        return moving[0], all(axis == moving[0] for axis in moving)
    longest = [axis for axis in axes if any(digit.length != 1 for digit in axis)]
    return (walking or longest or axes)[0], True
