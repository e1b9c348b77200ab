"""Fields: what every position of one tensor sees of the image.

Every operator's rule is about the digits on the axes that it touches; see `digits`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from convlens.analysis.digits import Axis, Digit, axis_length, offsets_of, span, walking_digits
from convlens.analysis.interval import Interval, Span
from convlens.analysis.reach import Reach
from convlens.analysis.shape import Dim, Shape
from convlens.analysis.view import View


class Missing(IntEnum):
    """What is not known of a field, the least first.

    Attributes:
        NOTHING: every path's contribution is known.
        LOCAL_PATHS: what some path sees that is local.
        OPERATOR: what an operator on the way does.
    """

    NOTHING = 0
    LOCAL_PATHS = 1
    OPERATOR = 2


@dataclass(frozen=True)
class Field:
    """What every position of a tensor sees of the image.

    Attributes:
        axes: for each axis of the tensor the digits of its index, the slowest first.
        views: for each image axis what a position sees over the paths that stay local, its
            position along that axis being the sum of step * digit; None where no path does.
        global_since: the index of the first node on some path that sees the whole image.
        misaligned_since: the index of the first node where branches met that differ in stride or
            centre.
        is_blended: whether the views are the union of what different channels see.
        missing: what is not known of it.
    """

    axes: tuple[Axis, ...]
    views: tuple[View | None, ...]
    global_since: int | None = None
    misaligned_since: int | None = None
    is_blended: bool = False
    missing: Missing = Missing.NOTHING

    @property
    def complete(self) -> bool:
        """Whether every path's contribution is known."""
        return self.missing is Missing.NOTHING

    def image_axes(self, axis: int) -> set[int]:
        """The image axes along which the tensor's axis walks."""
        walking = walking_digits(self.axes[axis])
        return {digit.image_axis for digit in walking if digit.image_axis is not None}

    def walks(self, image_axis: int) -> list[Digit]:
        """The digits that walk along an image axis, wherever they stand."""
        return [
            digit
            for axis in self.axes
            for digit in walking_digits(axis)
            if digit.image_axis == image_axis
        ]

    def with_axis(self, axis: int, digits: Axis) -> "Field":
        """The field with the digits of one axis replaced."""
        return self.seen_through((*self.axes[:axis], digits, *self.axes[axis + 1 :]), self.views)

    def with_view(self, image_axis: int, view: View | None) -> "Field":
        """The field with what it sees along one image axis replaced."""
        return self.seen_through(
            self.axes, (*self.views[:image_axis], view, *self.views[image_axis + 1 :])
        )

    def seen_through(self, axes: tuple[Axis, ...], views: tuple[View | None, ...]) -> "Field":
        """The field with other axes and views; `replace` takes four times as long."""
        return Field(
            axes,
            views,
            self.global_since,
            self.misaligned_since,
            self.is_blended,
            self.missing,
        )

    def with_views(self, change: Callable[[View], View]) -> "Field":
        """The field with every view changed."""
        return replace(self, views=tuple(view and change(view) for view in self.views))

    def made_global(self, node: int) -> "Field":
        """The field after `node` let every position see the whole image."""
        return replace(self, global_since=earliest((self.global_since, node)))

    def forgotten(self) -> "Field":
        """The field with a contribution missing that could not be worked out."""
        return replace(self, missing=max(self.missing, Missing.LOCAL_PATHS))


def image_field(shape: Shape, spatial_axes: Sequence[int], *, exact: bool = False) -> Field:
    """The field of an image: each pixel sees itself.

    Args:
        shape: of the image.
        spatial_axes: those of its axes that are image axes, in order.
        exact: whether to follow what every single position sees, where the sizes are known.
    """
    image_axis = {axis: index for index, axis in enumerate(spatial_axes)}
    views = [_pixels(shape[axis], exact=exact) for axis in spatial_axes]
    return Field(
        axes=tuple((Digit(dim, image_axis.get(axis)),) for axis, dim in enumerate(shape)),
        views=tuple(views),
    )


def _pixels(length: Dim, *, exact: bool) -> View:
    """Every pixel of an image axis sees itself."""
    intervals = (Interval(size=1, stride=1, start=0),)
    if not isinstance(length, int):
        return View(intervals)
    whole = Span(0, length)
    if not exact:
        return View(intervals, span=whole)
    # Imported here because it brings in numpy, and few follow single pixels.
    from convlens.analysis.extents import pixel_extents

    return View(intervals, pixel_extents(length), span=whole, tight=whole)


def unknown_field(
    fields: Sequence[Field], shape: Shape | None, missing: Missing = Missing.LOCAL_PATHS
) -> Field:
    """The field of which not even the axes are known.

    Args:
        fields: of what it is made of; where no path of them is local any more, none can have
            become so, and nothing more is missing.
        shape: of the tensor.
        missing: what is not known of how it is made.
    """
    if not any(view for field in fields for view in field.views):
        missing = Missing.NOTHING
    return Field(
        axes=tuple((Digit(dim),) for dim in shape or ()),
        views=(None,) * max(len(field.views) for field in fields),
        global_since=earliest(field.global_since for field in fields),
        misaligned_since=earliest(field.misaligned_since for field in fields),
        missing=max(missing, *(field.missing for field in fields)),
    )


def mixed(field: Field, axis: int, length: Dim, node: int) -> Field:
    """The field after `node` combined all positions along one axis of the tensor.

    An image axis along which the tensor still takes larger steps on another axis, from block to
    block, widens by the positions that were combined; any other becomes global.

    Args:
        field: before the combination.
        axis: of the tensor.
        length: of that axis afterwards.
        node: the index of the node, noted where it makes the field global.
    """
    combined = walking_digits(field.axes[axis])
    field = field.with_axis(axis, (Digit(length),))
    for image_axis in dict.fromkeys(digit.image_axis for digit in combined):
        assert image_axis is not None
        view = field.views[image_axis]
        if view is None:
            continue
        walked = [digit for digit in combined if digit.image_axis == image_axis]
        left = field.walks(image_axis)
        largest_step = max((digit.step for digit in left), default=0)
        stays_local = largest_step >= max(digit.step for digit in walked)
        offsets = offsets_of(walked) if stays_local else None
        if offsets is None:
            field = field.with_view(image_axis, None).made_global(node)
        else:
            positions = span(left)
            reach = Reach((sorted(offsets),))
            field = field.with_view(image_axis, view.through(reach, positions))
    return field


def straightened(field: Field, axis: int) -> Field | None:
    """The field with one walking digit on the axis, so that index and position are the same.

    Returns:
        None where other axes walk along the same image axis, or the axis along several.
    """
    digits = field.axes[axis]
    image_axes = field.image_axes(axis)
    if len(image_axes) != 1:
        return None
    (image_axis,) = image_axes
    if len(digits) == 1 and digits[0].step == 1 and len(field.walks(image_axis)) == 1:
        return None if digits[0].grid else field
    if any(digit.grid for digit in digits):
        return None
    moving = [digit for digit in digits if digit.length != 1] or list(digits[:1])
    if len(field.walks(image_axis)) > sum(digit.image_axis == image_axis for digit in digits):
        return None
    if len(moving) == 1 and moving[0].image_axis is not None and moving[0].step == 1:
        return field if len(digits) == 1 else field.with_axis(axis, (moving[0],))
    slowest, *faster = moving
    still = [replace(d, step=0) if d.image_axis is None else d for d in faster]
    taps = offsets_of(still)
    length: Dim = "?"
    if isinstance(slowest.length, int) and taps is not None:
        length = slowest.length * len(taps)
    elif not faster:
        length = slowest.length
    if taps is None:
        return None
    advance = 0 if slowest.image_axis is None else slowest.step
    view = field.views[image_axis]
    field = field.with_axis(axis, (Digit(length, image_axis),))
    if view is None:
        return field
    known = length if isinstance(length, int) else None
    return field.with_view(
        image_axis, view.through(Reach(tuple((tap,) for tap in taps), advance), known)
    )  # fmt: skip


def reached(field: Field, axis: int, reach: Reach | None, length: Dim) -> Field:
    """The field after an operator that reads along one axis of the tensor.

    Args:
        field: before.
        axis: of the tensor.
        reach: which positions the operator reads; None where that is not known.
        length: of the axis afterwards.
    """
    if reach is not None and reach.is_pointwise and length == axis_length(field.axes[axis]):
        return field
    image_axes = field.image_axes(axis)
    if not image_axes:
        return field.with_axis(axis, (Digit(length),))
    straight = straightened(field, axis)
    if straight is None:
        return _reached_among_others(field, axis, reach, length)
    (image_axis,) = image_axes
    view = straight.views[image_axis]
    field = straight.with_axis(axis, (Digit(length, image_axis),))
    if view is None:
        return field
    if reach is None:
        return field.with_view(image_axis, None).forgotten()
    known = length if isinstance(length, int) else None
    return field.with_view(image_axis, view.through(reach, known))


def _reached_among_others(field: Field, axis: int, reach: Reach | None, length: Dim) -> Field:
    """The same where other axes of the tensor walk along the image axis too, as after a split.

    An even reach moves along its own digit alone; the other digits keep their steps.
    """
    digits = field.axes[axis]
    image_axes = field.image_axes(axis)
    is_plain = len(image_axes) == 1 and len(digits) == 1 and not digits[0].grid
    if is_plain and reach is not None and reach.is_even and reach.advance > 0:
        (image_axis,), step = image_axes, digits[0].step
        view = field.views[image_axis]
        wide = Reach(((reach.taps[0][0] * step, reach.taps[0][-1] * step),))
        field = field.with_axis(axis, (Digit(length, image_axis, step * reach.advance),))
        return field.with_view(image_axis, view and view.through(wide, None).loosened())
    for image_axis in image_axes:
        field = field.with_view(image_axis, None)
    return field.with_axis(axis, (Digit(length, min(image_axes)),)).forgotten()


def earliest(nodes: Iterable[int | None]) -> int | None:
    """The lowest of the node indices; None where there is none."""
    return min((node for node in nodes if node is not None), default=None)
