"""Receptive fields: the fields of all tensors, and what is reported of each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from convlens.analysis.field import Field, image_field
from convlens.analysis.graph import Graph, Node
from convlens.analysis.interval import Interval, Number
from convlens.analysis.shape import Tensors, shape_of
from convlens.analysis.transfers import Step, apply

# A picture has a batch, channels and at least one spatial axis.
_MIN_PICTURE_RANK = 3

PerAxis = tuple[Number | None, ...] | None


@dataclass(frozen=True)
class ReceptiveField:
    """What a position of a tensor sees of the image, before clipping to it.

    Position i on an axis sees the pixels start + stride * i ... start + stride * i + size - 1 over
    the paths that stay local. The axes are in the tensor's own order; None stands for an axis that
    no path leaves local, and for all of them where there is no such axis.

    Attributes:
        size: in pixels.
        stride: in pixels.
        start: in pixels; negative under padding.
        global_since: the first node on some path that sees the whole image; None without such.
        aligned: whether all branches that met had the same stride and centre.
        complete: whether every path's contribution is known.
        axes: for each entry of `size`, `stride` and `start` the axis of the picture that it speaks
            of; (1, 0) after a Transpose of height and width.
    """

    size: PerAxis = None
    stride: PerAxis = None
    start: PerAxis = None
    global_since: str | None = None
    aligned: bool = True
    complete: bool = True
    axes: tuple[int, ...] = field(default=(), compare=False)


def trace_fields(graph: Graph, tensors: Tensors) -> dict[str, Field]:
    """Follow the image through the graph.

    Every input of rank 3 or more is taken for an image, (batch, channels, *spatial).

    Returns:
        The field of every tensor that a pixel reaches, by name.
    """
    fields: dict[str, Field] = {}
    for graph_input in graph.inputs:
        shape = tensors.get(graph_input.name, graph_input).shape
        if shape is not None and len(shape) >= _MIN_PICTURE_RANK:
            fields[graph_input.name] = image_field(shape)
    for node in graph.nodes:
        fields.update(_outputs(node, graph, tensors, fields))
    return fields


def _outputs(
    node: Node, graph: Graph, tensors: Tensors, fields: Mapping[str, Field]
) -> dict[str, Field]:
    """The fields of the node's outputs; none where no pixel reaches the node."""
    inputs = tuple(fields.get(name) for name in node.inputs)
    if not any(inputs):
        return {}
    step = Step(
        node=node,
        fields=inputs,
        shapes=tuple(shape_of(name, tensors) for name in node.inputs),
        stored=tuple(graph.stored.get(name) for name in node.inputs),
        output=None,
    )
    outputs = {}
    for name in filter(None, node.outputs):
        field = apply(replace(step, output=shape_of(name, tensors)))
        if field is not None:
            outputs[name] = field
    return outputs


def receptive_field(field: Field | None, graph: Graph) -> ReceptiveField:
    """What is reported of a tensor's field.

    An image axis along which several digits of the index walk is reported by the slowest of them:
    a position then is a block, and sees what its members see together.
    """
    if field is None:
        return ReceptiveField()
    axes = _in_tensor_order(field)
    intervals = [_reported(field, image_axis) for image_axis in axes]
    return ReceptiveField(
        size=_per_axis(intervals, lambda interval: interval.size),
        stride=_per_axis(intervals, lambda interval: interval.stride),
        start=_per_axis(intervals, lambda interval: interval.start),
        global_since=None if field.global_since is None else graph.nodes[field.global_since].name,
        aligned=field.aligned,
        complete=field.complete,
        axes=tuple(axes),
    )


def _per_axis(
    intervals: Sequence[Interval | None], number: Callable[[Interval], Number]
) -> PerAxis:
    if all(interval is None for interval in intervals):
        return None
    return tuple(None if interval is None else number(interval) for interval in intervals)


def _in_tensor_order(field: Field) -> list[int]:
    """The image axes in the order in which the tensor's axes walk along them."""
    walked = [digit.image_axis for digits in field.axes for digit in digits]
    found = dict.fromkeys(axis for axis in walked if axis is not None)
    return sorted(
        range(len(field.intervals)),
        key=lambda axis: list(found).index(axis) if axis in found else axis,
    )


def _reported(field: Field, image_axis: int) -> Interval | None:
    interval = field.intervals[image_axis]
    digits = [d for digits in field.axes for d in digits if d.image_axis == image_axis]
    if interval is None or not digits:
        return interval
    slowest = max(digits, key=lambda digit: digit.step)
    size = interval.size
    for digit in digits:
        if digit is not slowest and isinstance(digit.length, int):
            size += (digit.length - 1) * digit.step * interval.stride
    return Interval(size, interval.stride * slowest.step, interval.start)
