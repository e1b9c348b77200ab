"""Branches: what the positions of a tensor see in which several branches of the network meet."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

from convlens.analysis.digits import Axis, Digit, axis_length, repeated, span, walking_digits
from convlens.analysis.field import Field, Missing, earliest, straightened
from convlens.analysis.view import View, are_aligned, united


def joined(fields: Sequence[Field], node: int) -> Field:
    """The field of a tensor whose positions combine those of several, broadcast to one shape.

    Along each image axis the local paths are united; those of them that are global already add
    nothing but their `global_since`.

    Args:
        fields: of the tensors; at least one.
        node: the index of the node that joins them, noted where they are not aligned.
    """
    first = fields[0]
    if all(field is first for field in fields) and _is_even(first):
        return first
    rank = max(len(field.axes) for field in fields)
    fields, agree = _in_step(
        [
            replace(field, axes=(*(((Digit(1),),) * (rank - len(field.axes))), *field.axes))
            if len(field.axes) < rank
            else field
            for field in fields
        ]
    )
    axes = tuple(_broadcast([field.axes[axis] for field in fields]) for axis in range(rank))
    missing = max(field.missing for field in fields)
    if not agree:
        missing = max(missing, Missing.LOCAL_PATHS)
    misaligned = [field.misaligned_since for field in fields]
    views: list[View | None] = []
    branches: list[list[View | None]] = []
    for image_axis, candidates in enumerate(zip_longest(*(field.views for field in fields))):
        walked = [
            digit
            for axis in axes
            for digit in walking_digits(axis)
            if digit.image_axis == image_axis
        ]
        local = [
            _stretched(view, field.walks(image_axis), walked)
            for field, view in zip(fields, candidates, strict=True)
            if view is not None
        ]
        if len(local) > 1 and not are_aligned(local):
            misaligned.append(node)
        views.append(united(local) if local else None)
        branches.append([*local, *[None] * (len(fields) - len(local))])
    return Field(
        axes=axes,
        views=tuple(_loosened_beside_dark(views, branches)),
        global_since=earliest(field.global_since for field in fields),
        misaligned_since=earliest(misaligned),
        is_blended=any(field.is_blended for field in fields),
        missing=missing,
    )


def _loosened_beside_dark(
    views: Sequence[View | None], branches: Sequence[Sequence[View | None]]
) -> Sequence[View | None]:
    """The views; known only to cover what is seen where some branches alone are dark somewhere.

    Where a position lies in the padding of a branch along one image axis, that branch adds nothing
    along the others either, which views of one axis each do not tell.

    Args:
        views: along each image axis.
        branches: the views of which each of them is made; None for a branch without a local path.
    """
    if not any(_are_dark_apart(local) for local in branches):
        return views
    return [view and view.loosened() for view in views]


def _are_dark_apart(views: Sequence[View | None]) -> bool:
    """Whether one sees nothing where another may see something."""
    known = [view.extents for view in views if view is not None and view.extents is not None]
    if not known or all(view is views[0] for view in views):
        return False
    if len(known) < len(views):
        return any(extents.has_dark for extents in known)
    return not all(known[0].is_dark_where(extents) for extents in known[1:])


def _is_even(field: Field) -> bool:
    """Whether a position sees one interval an axis, so that it is aligned with itself."""
    return all(view is None or len(view.intervals) == 1 for view in field.views)


def _stretched(view: View, walks: Sequence[Digit], walked: Sequence[Digit]) -> View:
    """The view where a single position is broadcast along an image axis that others walk."""
    is_single = all(digit.length == 1 for digit in walks)
    moves = any(digit.length != 1 for digit in walked)
    return view.frozen(span(walked)) if is_single and moves else view


def _in_step(fields: Sequence[Field]) -> tuple[list[Field], bool]:
    """The fields with the same digits wherever they walk, and whether that is so."""
    fields, agree = list(fields), True
    for axis in range(len(fields[0].axes)):
        moving = [index for index, field in enumerate(fields) if _moves(field.axes[axis])]
        if len({_walk(fields[index].axes[axis]) for index in moving}) < 2:
            continue
        for index in moving:
            straight = straightened(fields[index], axis)
            fields[index] = straight or fields[index]
        agree &= len({_walk(fields[index].axes[axis]) for index in moving}) < 2
    return fields, agree


def _moves(axis: Axis) -> bool:
    return any(digit.length != 1 for digit in walking_digits(axis))


def _walk(axis: Axis) -> tuple[object, ...]:
    """What must be the same of two axes for their indices to mean the same position."""
    moving = [digit for digit in axis if digit.length != 1]
    # A single digit has the length of its axis, under whichever name.
    lengths = [digit.length for digit in moving] if len(moving) > 1 else []
    walks = ((digit.image_axis, digit.step, digit.grid, digit.before) for digit in moving)
    return (*walks, *lengths)


def _broadcast(axes: Sequence[Axis]) -> Axis:
    """The digits that index all of the axes."""
    walking = [axis for axis in axes if walking_digits(axis)]
    moving = [axis for axis in walking if _moves(axis)]
    longest = [axis for axis in axes if any(digit.length != 1 for digit in axis)]
    if not moving and walking and longest:
        return repeated(walking[0], axis_length(longest[0]))
    return (moving or walking or longest or axes)[0]
