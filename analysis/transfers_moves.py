"""Transfer functions of the operators that move values and compute none."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from convlens.analysis.blanks import beside_blanks, cut_beside_blanks
from convlens.analysis.branches import joined
from convlens.analysis.digits import Digit, axis_length, repeated
from convlens.analysis.field import Field, reached, straightened
from convlens.analysis.reach import Border, Reach, listed_reach, strided_reach
from convlens.analysis.regroup import regroup
from convlens.analysis.shape import Dim, Shape
from convlens.analysis.step import Step, counted
from convlens.analysis.view import View, side_by_side

# More positions than any axis has that is repeated.
_MAX_TILED = 2**20

_BORDERS: Mapping[str, Border] = {
    "constant": "nothing",
    "edge": "edge",
    "reflect": "reflect",
    "wrap": "wrap",
}


def reshaped(step: Step) -> Field:
    """Reshape, Flatten, Squeeze and Unsqueeze deal the digits out anew."""
    field = step.field(0)
    axes = field and step.output is not None and regroup(field.axes, step.output)
    if field is None or not axes:
        return step.unknown()
    return replace(field, axes=axes)


def transposed_axes(step: Step) -> Field:
    """Transpose: the axes change places."""
    field = step.joined()
    rank = len(field.axes)
    order = step.node.attributes.get("perm") or range(rank - 1, -1, -1)
    if sorted(order) != list(range(rank)):
        return step.unknown()
    return replace(field, axes=tuple(field.axes[axis] for axis in order))


def concatenated(step: Step) -> Field:
    """Concat: along an image axis the pieces lie side by side, along another nothing moves."""
    rank = len(step.known_fields[0].axes)
    axis = step.axis(0, rank)
    if any(len(field.axes) != rank for field in step.known_fields):
        return step.unknown()
    if any(field.image_axes(axis) for field in step.known_fields):
        return _placed_side_by_side(step, axis)
    # Each piece keeps its place, so that only the other axes tell what belongs together.
    pieces = [field.with_axis(axis, (Digit(1),)) for field in step.known_fields]
    field = joined(pieces, step.node.index)
    same = all(_same_views(piece, pieces[0]) for piece in pieces)
    has_blank_piece = len(step.known_fields) < len([name for name in step.node.inputs if name])
    return replace(
        field.with_axis(axis, (Digit(step.length(axis, rank)),)),
        is_blended=field.is_blended or not same or has_blank_piece,
    )


def _placed_side_by_side(step: Step, axis: int) -> Field:
    rank = len(step.known_fields[0].axes)
    beside = beside_blanks(step, axis)
    if beside is not None:
        return beside
    pieces: list[tuple[Field | None, int]] = []
    for field, shape, name in zip(step.fields, step.shapes, step.node.inputs, strict=True):
        length = shape[axis] if shape and len(shape) == rank else "?"
        straight = field and straightened(field, axis)
        if not name or not isinstance(length, int) or (field and straight is None):
            return step.unknown()
        pieces.append((straight, length))
    straight_fields = [field for field, _ in pieces if field is not None]
    image_axes = {min(field.image_axes(axis)) for field in straight_fields}
    if len(image_axes) != 1:
        return step.unknown()
    (image_axis,) = image_axes
    views = [
        (None if field is None else field.views[image_axis], length) for field, length in pieces
    ]
    others = [field.with_view(image_axis, None) for field in straight_fields]
    field = joined([other.with_axis(axis, (Digit(1),)) for other in others], step.node.index)
    if any(not _same_views(other, others[0]) for other in others):
        # What a piece sees along the other image axes is not what its neighbours see.
        field = field.with_views(View.loosened)
    field = field.with_axis(axis, (Digit(step.length(axis, rank), image_axis),))
    return field.with_view(image_axis, side_by_side(views))


def _same_views(first: Field, second: Field) -> bool:
    return all(one is other for one, other in zip(first.views, second.views, strict=True))


def split(step: Step) -> Field:
    """Split: each output is a slice of the input."""
    field = step.field(0)
    if field is None:
        return step.unknown()
    rank = len(field.axes)
    axis = step.axis(0, rank)
    begin = _begin_of_part(step, axis)
    return _sliced(step, field, axis, None if begin is None else strided_reach(begin))


def _begin_of_part(step: Step, axis: int) -> int | None:
    sizes = step.integers(1, "split")
    if sizes:
        return sum(sizes[: step.output_index])
    shape, parts = step.shape(0), len(step.node.outputs)
    length = shape[axis] if shape else "?"
    if not isinstance(length, int):
        return 0 if step.output_index == 0 else None
    # Only the last part may be shorter.
    return step.output_index * -(-length // parts)


def sliced(step: Step) -> Field:
    """Slice: the outputs are some of the inputs, at even distances."""
    field = step.field(0)
    if field is None:
        return step.unknown()
    rank = len(field.axes)
    starts = step.integers(1, "starts")
    steps = step.integers(4) or [1] * len(starts or ())
    axes = counted(step.integers(3, "axes") or range(len(starts or ())), rank)
    if starts is None or axes is None or not len(starts) == len(axes) == len(steps):
        return _sliced_somehow(step, field)
    for axis, start, stride in zip(axes, starts, steps, strict=True):
        begin = _first_index(start, stride, axis_length(field.axes[axis]))
        reach = None if begin is None or stride == 0 else strided_reach(begin, stride)
        field = _sliced(step, field, axis, reach)
    return field


def _first_index(start: int, step: int, length: Dim) -> int | None:
    """Where a slice begins, which may be given from the end or beyond it."""
    if not isinstance(length, int):
        return start if start >= 0 and step > 0 else None
    start = start + length if start < 0 else start
    return min(max(start, 0), length if step > 0 else length - 1)


def _sliced_somehow(step: Step, field: Field) -> Field:
    """A slice whose bounds are computed: axes that keep their length were not cut."""
    shape = step.shape(0)
    if shape is None or step.output is None or len(step.output) != len(shape):
        return step.unknown()
    for axis, (before, after) in enumerate(zip(shape, step.output, strict=True)):
        if before != after:
            field = _sliced(step, field, axis, None)
    return field


def stretch(step: Step, field: Field, axis: int, begin: int) -> Field:
    """What lies on one axis from `begin` on, as much as the output of the step has."""
    return _sliced(step, field, axis, strided_reach(begin))


def _sliced(step: Step, field: Field, axis: int, reach: Reach | None) -> Field:
    length = step.length(axis, len(field.axes))
    before = axis_length(field.axes[axis])
    if length == before and (reach is None or reach.is_pointwise):
        return field
    if any(digit.grid for digit in field.axes[axis]):
        return cut_beside_blanks(field, axis, reach, length)
    if not field.image_axes(axis):
        # Some of the channels may see less than all of them together.
        field = field.with_views(View.loosened) if field.is_blended else field
        return field.with_axis(axis, (Digit(length),))
    return reached(field, axis, reach, length)


def padded(step: Step) -> Field:
    """Pad: positions move away from the beginning."""
    field = step.field(0)
    if field is None:
        return step.unknown()
    rank = len(field.axes)
    pads = step.counts(1, "pads")
    axes = counted(step.integers(3) or range(rank), rank)
    border = _BORDERS.get(str(step.node.attributes.get("mode", "constant")))
    if pads is None or axes is None or border is None or len(pads) != 2 * len(axes):
        return step.unknown()
    for axis, begin, end in zip(axes, pads, pads[len(axes) :], strict=False):
        if begin != 0 or end != 0:
            # How much is padded at the end is told by the length.
            reach = strided_reach(-begin, border=border) if isinstance(begin, int) else None
            field = reached(field, axis, reach, step.length(axis, rank))
    return field


def gathered(step: Step) -> Field:
    """Gather: the outputs are some of the inputs, in any order."""
    field = step.field(0)
    if field is None:
        return step.unknown()
    rank = len(field.axes)
    axis = step.axis(0, rank)
    chosen, shape = step.shape(1), step.shape(0)
    if chosen is None:
        return step.unknown()
    length = shape[axis] if shape else "?"
    indices = step.integers(1)
    reach: Reach | None = None
    if indices is not None and (isinstance(length, int) or min(indices, default=0) >= 0):
        known = length if isinstance(length, int) else 0
        reach = _even_reach([index % known if index < 0 else index for index in indices])
    count: Dim = len(indices) if indices is not None else _product(chosen)
    field = _gathered_along(field, axis, reach, count)
    if len(chosen) == 1:
        return field
    return _with_axis_split(step, field, axis, chosen)


def _even_reach(indices: Sequence[int]) -> Reach:
    """The reach of listed positions; of evenly spaced ones that of a slice."""
    if not indices:
        return strided_reach(0)
    stride = indices[1] - indices[0] if len(indices) > 1 else 1
    if stride != 0 and list(indices) == [indices[0] + stride * i for i in range(len(indices))]:
        return strided_reach(indices[0], stride)
    return listed_reach(indices)


def _gathered_along(field: Field, axis: int, reach: Reach | None, length: Dim) -> Field:
    if any(digit.grid for digit in field.axes[axis]):
        return cut_beside_blanks(field, axis, reach, length)
    if not field.image_axes(axis):
        field = field.with_views(View.loosened) if field.is_blended else field
        return field.with_axis(axis, (Digit(length),))
    return reached(field, axis, reach, length)


def _with_axis_split(step: Step, field: Field, axis: int, shape: Shape) -> Field:
    """The field with one axis turned into as many as the indices of a Gather have, even none."""
    parts = regroup((field.axes[axis],), shape) if shape else ()
    if parts is None:
        return step.unknown()
    dropped = field.axes[axis] if not shape else ()
    field = replace(field, axes=(*field.axes[:axis], *parts, *field.axes[axis + 1 :]))
    lost = {digit.image_axis for digit in dropped if digit.image_axis is not None}
    # Nothing walks along the image axis any more: what is left is a single position.
    for image_axis in lost:
        field = field.with_view(image_axis, field.views[image_axis])
    return field


def _product(shape: Shape) -> Dim:
    if len(shape) == 1:
        return shape[0]
    return axis_length(tuple(map(Digit, shape)))


def expanded(step: Step) -> Field:
    """Expand: axes of length 1 are repeated, others may come in front."""
    field = step.field(0)
    if field is None or step.output is None or len(step.output) < len(field.axes):
        return step.unknown()
    return broadcast_to(field, step.output)


def broadcast_to(field: Field, shape: Shape) -> Field:
    """The field broadcast to a shape of at least its rank."""
    missing = len(shape) - len(field.axes)
    if missing:
        field = replace(field, axes=(*((Digit(dim),) for dim in shape[:missing]), *field.axes))
    for axis, dim in enumerate(shape):
        if dim != 1 and axis_length(field.axes[axis]) == 1:
            field = field.with_axis(axis, repeated(field.axes[axis], dim))
    return field


def tiled(step: Step) -> Field:
    """Tile: the whole axis is repeated, one copy behind the other."""
    field, repeats = step.field(0), step.integers(1)
    if field is None or repeats is None or len(repeats) != len(field.axes):
        return step.unknown()
    for axis, count in enumerate(repeats):
        if count == 1:
            continue
        before = axis_length(field.axes[axis])
        length = step.length(axis, len(field.axes))
        if before == 1 or not field.image_axes(axis):
            field = field.with_axis(axis, repeated(field.axes[axis], length))
        elif isinstance(before, int) and 0 < before * count <= _MAX_TILED:
            field = reached(field, axis, listed_reach([*range(before)] * count), length)
        else:
            return step.unknown()
    return field
