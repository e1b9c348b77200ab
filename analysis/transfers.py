"""Transfer functions: what one operator does to the field of its inputs.

`TRANSFERS` maps an op_type to its function. An operator that is not in it leaves behind a field
that says so; one whose output holds no pixel, as Shape, gives None.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from convlens.analysis.field import Digit, Field, joined, mixed, slid, unknown_field
from convlens.analysis.graph import Node, StoredTensor
from convlens.analysis.operators import (
    COPIES,
    ELEMENTWISE,
    GLOBAL_POOLINGS,
    REDUCTIONS,
    RESHAPES,
    SHAPE_ARITHMETIC,
)
from convlens.analysis.regroup import regroup
from convlens.analysis.shape import Shape
from convlens.analysis.sliding_window import CONVOLUTIONS, POOLINGS, sliding_windows


@dataclass(frozen=True)
class Step:
    """One operator on its way through the graph, for one of its outputs.

    Attributes:
        node: the operator.
        fields: of each input; None where no pixel reaches it.
        shapes: of each input, where known.
        stored: what the file holds of each input; None where a node computes it.
        output: the shape of the output that is asked for, where known.
    """

    node: Node
    fields: tuple[Field | None, ...]
    shapes: tuple[Shape | None, ...]
    stored: tuple[StoredTensor | None, ...]
    output: Shape | None

    @property
    def known_fields(self) -> list[Field]:
        """The fields of the inputs that pixels reach; at least one."""
        return [field for field in self.fields if field is not None]

    def unknown(self) -> Field:
        """The field where the operator's effect is not understood."""
        return unknown_field(self.known_fields, self.output)


Transfer = Callable[[Step], Field | None]


def apply(step: Step) -> Field | None:
    """The field of an operator's output; None where no pixel reaches it."""
    transfer = TRANSFERS.get(step.node.op_type)
    if transfer is None or any(not field.axes for field in step.known_fields):
        return step.unknown()
    return transfer(step)


def _elementwise(step: Step) -> Field:
    """Every position sees what the same position of each input sees."""
    field = joined(step.known_fields)
    if step.output is None or len(step.output) < len(field.axes):
        return field
    # A constant operand may add axes in front, or stretch axes of length 1.
    missing = len(step.output) - len(field.axes)
    field = replace(field, axes=(*((Digit(dim),) for dim in step.output[:missing]), *field.axes))
    for axis, dim in enumerate(step.output):
        if dim != 1 and all(digit.length == 1 for digit in field.axes[axis]):
            field = field.with_axis(axis, (Digit(dim),))
    return field


def _sliding(step: Step) -> Field:
    """Conv and pooling: a window slides along the axes from the third on; Conv mixes channels."""
    field = step.fields[0]
    weight = step.shapes[1] if len(step.shapes) > 1 else None
    windows = sliding_windows(step.node.op_type, step.node.attributes, step.shapes[0], weight)
    if field is None or windows is None or len(field.axes) != len(windows) + 2:
        return step.unknown()
    output = step.output if step.output and len(step.output) == len(field.axes) else None
    lengths = output or ("?",) * len(field.axes)
    if step.node.op_type in CONVOLUTIONS:
        field = mixed(field, 1, lengths[1], step.node.index)
    for axis, window in enumerate(windows, start=2):
        field = slid(field, axis, window, lengths[axis])
    return field


def _global_pooling(step: Step) -> Field:
    """Every axis from the third on becomes one position that sees all of it."""
    field = joined(step.known_fields)
    for axis in range(2, len(field.axes)):
        field = mixed(field, axis, 1, step.node.index)
    return field


def _reduction(step: Step) -> Field:
    """The axes that are reduced become one position, or vanish."""
    field = step.fields[0]
    if field is None:
        return step.unknown()
    rank = len(field.axes)
    axes = _reduced_axes(step, rank)
    if axes is None:
        return step.unknown()
    for axis in axes:
        field = mixed(field, axis, 1, step.node.index)
    if step.node.attributes.get("keepdims", 1):
        return field
    return replace(
        field, axes=tuple(digits for axis, digits in enumerate(field.axes) if axis not in axes)
    )


def _reduced_axes(step: Step, rank: int) -> list[int] | None:
    if step.node.op_type in {"ArgMax", "ArgMin"}:
        return [step.node.attributes.get("axis", 0) % rank]
    axes: Sequence[int] = step.node.attributes.get("axes") or ()
    if step.node.input(1):
        stored = step.stored[1]
        if stored is None or stored.values is None:
            return None
        axes = stored.values.ravel().tolist()
    if not axes and not step.node.attributes.get("noop_with_empty_axes", 0):
        axes = range(rank)
    return sorted({axis % rank for axis in axes})


def _normalisation(first_axis: Callable[[Step, int], Sequence[int]]) -> Transfer:
    """An operator that scales each value by statistics over the axes that `first_axis` names."""

    def transfer(step: Step) -> Field:
        field = joined(step.known_fields)
        axes = first_axis(step, len(field.axes))
        if any(field.image_axes(axis) for axis in axes):
            return field.made_global(step.node.index)
        return field

    return transfer


def _axes_from(attribute_default: int) -> Callable[[Step, int], Sequence[int]]:
    """The axes from the attribute `axis` to the last."""
    return lambda step, rank: range(
        step.node.attributes.get("axis", attribute_default) % rank, rank
    )


def _one_axis(step: Step, rank: int) -> Sequence[int]:
    return (step.node.attributes.get("axis", -1) % rank,)


def _spatial_axes(_: Step, rank: int) -> Sequence[int]:
    return range(2, rank)


def _matmul(step: Step) -> Field:
    """Positions of the first operand's rows see all of its columns, as those of the second do.

    Where pixels reach both operands, as in attention, each row is joined with every column of the
    second: its own path stays local and the second's becomes global.
    """
    node = step.node.index
    first, second = (*step.fields, None)[:2]
    if any(len(field.axes) < 2 for field in step.known_fields):
        return step.unknown()
    if first is not None:
        first = mixed(first, len(first.axes) - 1, 1, node)
    if second is not None:
        second = mixed(second, len(second.axes) - 2, 1, node)
    if first is not None and second is not None:
        second = mixed(second, len(second.axes) - 1, 1, node)
    field = joined([field for field in (first, second) if field is not None])
    return _elementwise(replace(step, fields=(field,)))


def _gemm(step: Step) -> Field:
    """Rows of the first operand are positions; its columns are mixed."""
    data = step.fields[0]
    if data is None or step.fields[1] is not None or len(data.axes) != 2:
        return step.unknown()
    if step.node.attributes.get("transA", 0):
        data = replace(data, axes=data.axes[::-1])
    length = step.output[1] if step.output else "?"
    field = mixed(data, 1, length, step.node.index)
    bias = step.fields[2] if len(step.fields) > 2 else None
    return field if bias is None else joined([field, bias])


def _reshape(step: Step) -> Field:
    field = step.fields[0]
    axes = field and step.output and regroup(field.axes, step.output)
    if field is None or not axes:
        return step.unknown()
    return replace(field, axes=axes)


def _transpose(step: Step) -> Field:
    field = joined(step.known_fields)
    rank = len(field.axes)
    order = step.node.attributes.get("perm") or range(rank - 1, -1, -1)
    if sorted(order) != list(range(rank)):
        return step.unknown()
    return replace(field, axes=tuple(field.axes[axis] for axis in order))


def _concat(step: Step) -> Field:
    """Along an axis that walks along no image axis, pieces lie side by side and nothing moves."""
    return _along_sourceless_axis(step, joined(step.known_fields), default=0)


def _split(step: Step) -> Field:
    return _along_sourceless_axis(step, step.fields[0], default=0)


def _along_sourceless_axis(step: Step, field: Field | None, default: int) -> Field:
    if field is None or step.output is None or len(step.output) != len(field.axes):
        return step.unknown()
    axis = step.node.attributes.get("axis", default) % len(field.axes)
    if field.image_axes(axis):
        return step.unknown()
    return field.with_axis(axis, (Digit(step.output[axis]),))


def _no_pixels(_: Step) -> None:
    return None


TRANSFERS: Mapping[str, Transfer] = {
    **dict.fromkeys(ELEMENTWISE | COPIES | {"BatchNormalization", "LRN"}, _elementwise),
    **dict.fromkeys(CONVOLUTIONS | POOLINGS, _sliding),
    **dict.fromkeys(GLOBAL_POOLINGS, _global_pooling),
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(RESHAPES, _reshape),
    **dict.fromkeys(SHAPE_ARITHMETIC, _no_pixels),
    "Concat": _concat,
    "Gemm": _gemm,
    "GroupNormalization": _normalisation(_spatial_axes),
    "InstanceNormalization": _normalisation(_spatial_axes),
    "LayerNormalization": _normalisation(_axes_from(-1)),
    "LogSoftmax": _normalisation(_one_axis),
    "MatMul": _matmul,
    "RMSNormalization": _normalisation(_axes_from(-1)),
    "Softmax": _normalisation(_one_axis),
    "Split": _split,
    "Transpose": _transpose,
}
