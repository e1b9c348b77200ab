"""Blanks: positions that see nothing of the image, beside those that do, as a class token."""

from dataclasses import replace

from convlens.analysis.branches import joined
from convlens.analysis.digits import Digit, axis_length
from convlens.analysis.field import Field, reached, straightened
from convlens.analysis.reach import Reach
from convlens.analysis.shape import Dim, Shape
from convlens.analysis.step import Step
from convlens.analysis.view import View


def beside_blanks(step: Step, axis: int) -> Field | None:
    """The field of a Concat of a flattened map and of pieces that see none of it.

    Args:
        step: the Concat.
        axis: along which it joins.

    Returns:
        None where several pieces walk along the axis, the only one walks along a single image
        axis, or a length is not known.
    """
    walking = [index for index, field in enumerate(step.fields) if field and field.image_axes(axis)]
    lengths = [_length(shape, axis) for shape in step.shapes]
    grid_field = step.field(walking[0])
    if len(walking) > 1 or grid_field is None or straightened(grid_field, axis) is not None:
        return None
    image_axes = grid_field.image_axes(axis)
    others = [field for field in step.known_fields if field is not grid_field]
    if any(field.views[image_axis] for field in others for image_axis in image_axes):
        return None
    before, digits = sum(lengths[: walking[0]]), grid_field.axes[axis]
    if len(digits) == 1 and digits[0].grid:
        before, digits = before + digits[0].before, digits[0].grid
    whole = Digit(sum(lengths), grid=digits, before=before)
    if 0 in lengths or not isinstance(axis_length(digits), int):
        return None
    pieces = [field.with_axis(axis, (Digit(1),)) for field in (grid_field, *others)]
    field = joined(pieces, step.node.index).with_axis(axis, (whole,))
    return field.with_views(View.loosened)


def _length(shape: Shape | None, axis: int) -> int:
    """The length of an axis; 0 where it is not known."""
    length = shape[axis] if shape and axis < len(shape) else 0
    return length if isinstance(length, int) else 0


def cut_beside_blanks(field: Field, axis: int, reach: Reach | None, length: Dim) -> Field:
    """The field of a stretch of an axis on which positions stand beside blanks.

    Args:
        field: before.
        axis: the one that is cut.
        reach: which of its values are kept; None where that is not known.
        length: how many are kept.
    """
    (digit, *more) = field.axes[axis]
    grid_length = axis_length(digit.grid)
    begin = reach.taps[0][0] if reach is not None and reach.is_even else None
    steps_on = reach is not None and (reach.advance == 1 or length == 1)
    if more or begin is None or not steps_on:
        return reached(field, axis, None, length)
    if not isinstance(length, int) or not isinstance(grid_length, int):
        return reached(field, axis, None, length)
    begin, end = begin - digit.before, begin - digit.before + length
    if begin == 0 and end == grid_length:
        return field.with_axis(axis, digit.grid)
    if begin <= 0 and end >= grid_length:
        return field.with_axis(axis, (replace(digit, length=length, before=-begin),))
    if begin < grid_length and end > 0:
        return reached(field, axis, None, length)
    lost = field.image_axes(axis)
    field = field.with_axis(axis, (Digit(length),))
    for image_axis in lost:
        if not field.walks(image_axis):
            field = field.with_view(image_axis, None)
    return field
