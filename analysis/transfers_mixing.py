"""Transfer functions of the operators that combine all positions along an axis."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from convlens.analysis.branches import joined
from convlens.analysis.digits import Digit, axis_length
from convlens.analysis.field import Field, mixed
from convlens.analysis.shape_products import einsum_labels
from convlens.analysis.step import Step, Transfer, counted
from convlens.analysis.transfers_moves import broadcast_to

# Until then Softmax worked on a matrix into which the axes from `axis` on were flattened.
_SOFTMAX_OF_ONE_AXIS_SINCE = 13


def global_pooling(step: Step) -> Field:
    """Every axis from the third on becomes one position that sees all of it."""
    field = step.field(0)
    if field is None or step.node.attributes.get("channels_last", 0):
        return step.unknown()
    for axis in range(2, len(field.axes)):
        field = mixed(field, axis, 1, step.node.index)
    return field


def reduced(step: Step) -> Field:
    """The axes that are reduced become one position, or vanish."""
    field = step.field(0)
    if field is None:
        return step.unknown()
    rank = len(field.axes)
    axes = reduced_axes(step, rank)
    if axes is None:
        return step.unknown()
    for axis in axes:
        field = mixed(field, axis, 1, step.node.index)
    if any(not field.image_axes(axis) for axis in axes if axis == 1):
        field = replace(field, is_blended=False)
    if step.node.attributes.get("keepdims", 1):
        return field
    return replace(
        field, axes=tuple(digits for axis, digits in enumerate(field.axes) if axis not in axes)
    )


def reduced_axes(step: Step, rank: int) -> list[int] | None:
    """The axes of a reduction, counted from the front; None where they are computed."""
    if step.op_type in {"ArgMax", "ArgMin"}:
        return [step.axis(0, rank)]
    axes = step.integers(1, "axes")
    if axes is None and step.node.input(1):
        return None
    if not axes and not step.node.attributes.get("noop_with_empty_axes", 0):
        axes = list(range(rank))
    return counted(axes or [], rank)


def normalised(axes_of: Callable[[Step, int], Sequence[int]]) -> Transfer:
    """An operator that scales each value by statistics over the axes that `axes_of` names."""

    def transfer(step: Step) -> Field:
        field = step.joined()
        axes = axes_of(step, len(field.axes))
        for axis in axes:
            others = (field.image_axes(a) for a in range(len(field.axes)) if a not in axes)
            if field.image_axes(axis) <= set().union(*others):
                # Blocks of pixels lie in the channels: a position sees its block, no more.
                if field.image_axes(axis):
                    field = mixed(field, axis, axis_length(field.axes[axis]), step.node.index)
            else:
                field = field.made_global(step.node.index)
        return field

    return transfer


def axes_from(attribute_default: int) -> Callable[[Step, int], Sequence[int]]:
    """The axes from the attribute `axis` to the last."""
    return lambda step, rank: range(step.axis(attribute_default, rank), rank)


def one_axis(step: Step, rank: int) -> Sequence[int]:
    """The axis that the attribute `axis` names."""
    return (step.axis(-1, rank),)


def softmax_axes(step: Step, rank: int) -> Sequence[int]:
    """One axis; before opset 13 all from it on."""
    if step.opset and step.opset < _SOFTMAX_OF_ONE_AXIS_SINCE:
        return range(step.axis(1, rank), rank)
    return (step.axis(-1, rank),)


def spatial_axes(_: Step, rank: int) -> Sequence[int]:
    """The axes from the third on."""
    return range(2, rank)


def listed_axes(default: tuple[int, ...]) -> Callable[[Step, int], Sequence[int]]:
    """The axes that the attribute `axes` lists."""
    return lambda step, rank: [axis % rank for axis in step.node.attributes.get("axes", default)]


def accumulated(step: Step) -> Field:
    """CumSum: a position sees all before it, so that along the axis no path stays local."""
    field, axes = step.field(0), step.integers(1)
    if field is None or not axes:
        return step.unknown()
    axis = axes[0] % len(field.axes)
    length = axis_length(field.axes[axis])
    return mixed(field, axis, length, step.node.index) if field.image_axes(axis) else field


def matrix_product(step: Step) -> Field:
    """Positions of the first operand's rows see all of its columns, as those of the second do.

    Where pixels reach both operands, as in attention, each row is joined with every column of the
    second: its own path stays local and the second's becomes global.
    """
    node = step.node.index
    second_input = 3 if step.op_type == "QLinearMatMul" else 1
    first, second = step.field(0), step.field(second_input)
    if any(len(field.axes) < 2 for field in (first, second) if field is not None):
        return step.unknown()
    if first is not None:
        first = mixed(first, len(first.axes) - 1, 1, node)
    if second is not None:
        second = mixed(second, len(second.axes) - 2, 1, node)
    if first is not None and second is not None:
        second = mixed(second, len(second.axes) - 1, 1, node)
    fields = [field for field in (first, second) if field is not None]
    if not fields:
        return step.unknown()
    field = replace(joined(fields, node), is_blended=False)
    if step.output is None or len(step.output) < len(field.axes):
        return field
    return broadcast_to(field, step.output)


def fully_connected(step: Step) -> Field:
    """Gemm: rows of the first operand are positions; its columns are mixed."""
    data = step.field(0)
    if data is None or step.field(1) is not None or len(data.axes) != 2:
        return step.unknown()
    if step.node.attributes.get("transA", 0):
        data = replace(data, axes=data.axes[::-1])
    field = mixed(data, 1, step.length(1, 2), step.node.index)
    bias = step.field(2)
    return field if bias is None else joined([field, bias], step.node.index)


def einstein_sum(step: Step) -> Field:
    """Einsum: the indices that are not in the result are mixed.

    Pixels of a second operand reach every position by way of the sum, so that its own path is no
    longer local, as with a matrix product.
    """
    equation = str(step.node.attributes.get("equation", ""))
    shapes = step.shapes
    labels = einsum_labels(equation, [len(shape) for shape in shapes if shape is not None])
    if labels is None or None in shapes:
        return step.unknown()
    terms, result = labels
    carried: list[Field] = []
    for term, field in zip(terms, step.fields, strict=True):
        if field is None:
            continue
        if len(term) != len(field.axes) or len(set(term)) != len(term):
            return step.unknown()
        carried.append(_summed(field, term, result, step, keep=not carried))
    field = joined(carried, step.node.index)
    is_known = step.output is not None and len(step.output) == len(field.axes)
    return broadcast_to(field, step.output) if step.output is not None and is_known else field


def _summed(
    field: Field, term: Sequence[str], result: Sequence[str], step: Step, *, keep: bool
) -> Field:
    """One operand's field on the axes of the result."""
    for axis, label in enumerate(term):
        if label not in result or (not keep and field.image_axes(axis)):
            field = mixed(field, axis, 1, step.node.index)
    lengths = [step.length(index, len(result)) if keep else 1 for index in range(len(result))]
    axes = tuple(
        field.axes[term.index(label)] if label in term else (Digit(length),)
        for label, length in zip(result, lengths, strict=True)
    )
    return replace(field, axes=axes, is_blended=False)


def attention(step: Step) -> Field:
    """Attention: a query's position sees those of all keys and values; its own path is local."""
    field = step.field(0)
    if field is None or step.output_index:
        return step.unknown()
    if step.output is not None and len(step.output) != len(field.axes):
        return step.unknown()
    channels = len(field.axes) - 1
    # The heads may lie on an axis of their own or within the channels; both are mixed.
    sees_positions = any(
        source.image_axes(axis)
        for source in (step.field(1) or field, step.field(2) or field)
        for axis in range(len(source.axes))
    )
    field = field.with_axis(channels, (Digit(step.length(channels, len(field.axes))),))
    return field.made_global(step.node.index) if sees_positions else field
