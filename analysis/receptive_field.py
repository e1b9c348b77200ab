"""Receptive fields: the fields of all tensors, and what is reported of each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from convlens.analysis.digits import walking_digits
from convlens.analysis.field import Field, Missing, image_field, straightened, unknown_field
from convlens.analysis.graph import Graph, Node
from convlens.analysis.image_layout import image_layout
from convlens.analysis.interval import Interval, Span
from convlens.analysis.number import Number, plain
from convlens.analysis.shape import Tensors, shape_of
from convlens.analysis.step import Step
from convlens.analysis.transfers import apply
from convlens.analysis.values import Values

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
        misaligned_since: the first node where branches met that differ in stride or centre; None
            where all are aligned. Where strides differ, a position sees what the larger branch
            sees and more, the further from the first position the more.
        complete: whether every path's contribution is known.
        axes: for each entry of `size`, `stride` and `start` the axis of the picture that it speaks
            of; (1, 0) after a Transpose of height and width.
        paths: for each of these entries what a position sees over the paths of each stride; empty
            where no path stays local.
        spans: for each of these entries the pixels beyond which no position sees any, whatever its
            interval says; None where the sizes are not known.
    """

    size: PerAxis = None
    stride: PerAxis = None
    start: PerAxis = None
    global_since: str | None = None
    misaligned_since: str | None = None
    complete: bool = True
    axes: tuple[int, ...] = field(default=(), compare=False)
    paths: tuple[tuple[Interval, ...], ...] = field(default=(), compare=False)
    spans: tuple[Span | None, ...] = field(default=(), compare=False)

    @property
    def aligned(self) -> bool:
        """Whether all branches that met had the same stride and centre."""
        return self.misaligned_since is None


def trace_fields(
    graph: Graph,
    tensors: Tensors,
    opset: int = 0,
    folded: Mapping[str, Values | None] | None = None,
    *,
    exact: bool = False,
) -> dict[str, Field]:
    """Follow the image through the graph.

    Every input of rank 3 or more is taken for an image; see `image_layout`.

    Args:
        graph: the operators.
        tensors: their shapes.
        opset: the version of ONNX's own operators; 0 for the newest.
        folded: the values of the tensors that shape arithmetic makes.
        exact: whether to follow what every single position sees, too; it takes some times longer.

    Returns:
        The field of every tensor that a pixel reaches, by name.
    """
    fields: dict[str, Field] = {}
    for graph_input in graph.inputs:
        shape = tensors.get(graph_input.name, graph_input).shape
        layout = image_layout(graph_input.name, len(shape or ()), graph)
        if shape is not None and layout is not None:
            fields[graph_input.name] = image_field(shape, layout.spatial, exact=exact)
    for node in graph.nodes:
        if node.bodies:
            fields.update(_outputs_of_bodies(node, tensors, fields))
        elif not fields.keys().isdisjoint(node.inputs):
            step = step_at(node, graph, tensors, fields, opset, folded)
            fields.update(_outputs(step, tensors))
    return fields


def _outputs(step: Step, tensors: Tensors) -> dict[str, Field]:
    """The fields of the operator's outputs."""
    outputs = {}
    for index, name in enumerate(step.node.outputs):
        if name:
            if index:
                step = replace(step, output=shape_of(name, tensors), output_index=index)
            field = apply(step)
            if field is not None:
                outputs[name] = field
    return outputs


def _outputs_of_bodies(
    node: Node, tensors: Tensors, fields: Mapping[str, Field]
) -> dict[str, Field]:
    """The fields of what an If, Loop or Scan gives; its bodies are not followed."""
    sources = [fields[name] for name in node.reads if name in fields]
    if not sources:
        return {}
    return {
        name: unknown_field(sources, shape_of(name, tensors), Missing.OPERATOR)
        for name in filter(None, node.outputs)
    }


def step_at(
    node: Node,
    graph: Graph,
    tensors: Tensors,
    fields: Mapping[str, Field],
    opset: int,
    folded: Mapping[str, Values | None] | None = None,
) -> Step:
    """The operator with all that is known of its inputs, for its first output."""
    return Step(
        node=node,
        fields=tuple(map(fields.get, node.inputs)),
        tensors=tensors,
        stored=graph.stored,
        folded=folded or {},
        output=shape_of(node.output, tensors),
        opset=opset,
    )


def receptive_fields(fields: Mapping[str, Field], graph: Graph) -> dict[str, ReceptiveField]:
    """What is reported of each tensor; the many that share a field share the answer."""
    different = {id(field): field for field in fields.values()}
    reported = {key: receptive_field(field, graph) for key, field in different.items()}
    return {name: reported[id(field)] for name, field in fields.items()}


def receptive_field(field: Field | None, graph: Graph) -> ReceptiveField:
    """What is reported of a tensor's field.

    An image axis along which several digits of the index walk is reported by the slowest of them:
    a position then is a block, and sees what its members see together.
    """
    if field is None:
        return ReceptiveField()
    axes = _in_tensor_order(field)
    intervals = [_reported(field, image_axis) for image_axis in axes]
    views = [field.views[image_axis] for image_axis in axes]

    def name(node: int | None) -> str | None:
        return None if node is None else graph.nodes[node].name

    return ReceptiveField(
        size=_per_axis(intervals, lambda interval: interval.size),
        stride=_per_axis(intervals, lambda interval: interval.stride),
        start=_per_axis(intervals, lambda interval: interval.start),
        global_since=name(field.global_since),
        misaligned_since=name(field.misaligned_since),
        complete=field.complete,
        axes=tuple(axes) if any(intervals) else (),
        paths=tuple(view.intervals if view else () for view in views),
        spans=tuple(view.span if view else None for view in views),
    )


def _per_axis(
    intervals: Sequence[Interval | None], number: Callable[[Interval], Number]
) -> PerAxis:
    if all(interval is None for interval in intervals):
        return None
    return tuple(None if interval is None else number(interval) for interval in intervals)


def _in_tensor_order(field: Field) -> list[int]:
    """The image axes in the order in which the tensor's axes walk along them."""
    walked = (digit for axis in field.axes for digit in walking_digits(axis))
    found = dict.fromkeys(digit.image_axis for digit in walked)
    return sorted(
        range(len(field.views)),
        key=lambda axis: list(found).index(axis) if axis in found else axis,
    )


def _reported(field: Field, image_axis: int) -> Interval | None:
    digits = field.walks(image_axis)
    for axis in range(len(field.axes)):
        if field.image_axes(axis) == {image_axis}:
            field = straightened(field, axis) or field
            digits = field.walks(image_axis)
    view = field.views[image_axis]
    if view is None:
        return None
    interval = view.interval
    if not digits:
        return interval
    slowest = max(digits, key=lambda digit: digit.step)
    size = interval.size
    for digit in digits:
        if digit is not slowest and isinstance(digit.length, int):
            size += (digit.length - 1) * digit.step * interval.stride
    return Interval(plain(size), plain(interval.stride * slowest.step), interval.start)
