"""Shapes of every tensor: onnx's own inference on the graph without its weights, then our own.

What onnx leaves open, above all shape arithmetic and symbolic dimensions, is finished here, and
what both know is compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from convlens.analysis.errors import InputSizeError
from convlens.analysis.graph import Graph
from convlens.analysis.graph_reader import text
from convlens.analysis.image_layout import ImageLayout, image_layout
from convlens.analysis.onnx_inference import OnnxInference, infer_model
from convlens.analysis.onnx_parts import ModelProto
from convlens.analysis.shape import Dim, Shape, Tensor, Tensors, format_shape, format_size
from convlens.analysis.shape_bodies import Body
from convlens.analysis.shape_checks import check_shapes
from convlens.analysis.shape_pass import ShapePass
from convlens.analysis.values import Values

# What the dimensions of a picture are called where they are to be symbolic: the batch, and the
# spatial axes by how many there are.
BATCH_SYMBOL = "N"
_SPATIAL = {1: ("W",), 2: ("H", "W"), 3: ("D", "H", "W")}
SYMBOLS = (BATCH_SYMBOL, "D", "H", "W")


@dataclass(frozen=True)
class InferredShapes:
    """The outcome of shape inference.

    Attributes:
        tensors: every tensor of the graph of which anything is known, by name.
        disputes: by the index of a node, how its output shape by onnx differs from the formula's.
        notes: what else a reader must be told, a line each.
        bodies: the graphs inside an If, Loop or Scan, by the index of that node.
        folded: the values of the tensors that shape arithmetic makes, by name.
        single_pictures: the inputs that are one picture without a batch.
        picture: the spatial size of the first picture among the inputs; empty where none is.
    """

    tensors: Tensors
    disputes: Mapping[int, str]
    notes: tuple[str, ...] = ()
    bodies: Mapping[int, tuple[Body, ...]] = field(default_factory=dict)
    folded: Mapping[str, Values | None] = field(default_factory=dict)
    single_pictures: tuple[str, ...] = ()
    picture: Shape = ()


def infer_shapes(
    proto: ModelProto,
    graph: Graph,
    batch: int | None = None,
    input_size: Sequence[int] | None = None,
    *,
    symbolic: bool = False,
) -> InferredShapes:
    """Find the shape and dtype of every tensor of the graph.

    Args:
        proto: the model without its weights.
        graph: the same model's graph.
        batch: replaces the batch of every input that has one.
        input_size: replaces the spatial dimensions of every picture input (rank 3 or more).
        symbolic: call the batch N and the spatial dimensions of every picture H and W, where no
            number is given for them.

    Raises:
        InputSizeError: no input is a picture of that many axes, or none has a batch to be
            replaced, or an operator cannot take the shape that reaches it.
    """
    layouts = {
        tensor.name: image_layout(tensor.name, len(tensor.shape or ()), graph)
        for tensor in graph.inputs
    }
    _check_wanted(layouts, graph, batch, input_size)
    wanted = {
        tensor.name: _wanted_dims(
            tensor, layouts[tensor.name], batch, input_size, symbolic=symbolic
        )
        for tensor in graph.inputs
    }
    pinned = _pin_inputs(proto, wanted)
    by_onnx, notes = infer_model(pinned)
    shapes = ShapePass(by_onnx, OnnxInference.of(proto))
    shapes.run(graph, [_pinned_tensor(tensor, wanted[tensor.name]) for tensor in graph.inputs])
    resized = input_size is not None or batch is not None
    check_shapes(graph, shapes.tensors, resized=resized)
    single = tuple(name for name, layout in layouts.items() if layout and layout.batch is None)
    picture = next(
        (
            tuple(shape[axis] for axis in layout.spatial)
            for name, layout in layouts.items()
            if layout is not None and (shape := shapes.tensors[name].shape)
        ),
        (),
    )
    return InferredShapes(
        shapes.tensors, shapes.disputes, notes, shapes.bodies, shapes.values, single, picture
    )


def _check_wanted(
    layouts: Mapping[str, ImageLayout | None],
    graph: Graph,
    batch: int | None,
    input_size: Sequence[int] | None,
) -> None:
    shapes = ", ".join(f"[{format_shape(tensor.shape)}]" for tensor in graph.inputs) or "none"
    spatial = [layout.spatial for layout in layouts.values() if layout is not None]
    if input_size is not None and len(input_size) not in map(len, spatial):
        raise InputSizeError(
            f"no input has {len(input_size)} spatial axes to set to "
            f"{format_size(input_size)}: the inputs are {shapes}"
        )
    single = [layout for layout in layouts.values() if layout and layout.batch is None]
    if batch is not None and single and len(single) == len(layouts):
        raise InputSizeError(
            f"no input has a batch to set to {batch}: each is a single picture, {shapes}"
        )


def _wanted_dims(
    tensor: Tensor,
    layout: ImageLayout | None,
    batch: int | None,
    input_size: Sequence[int] | None,
    *,
    symbolic: bool,
) -> dict[int, Dim]:
    """The dimensions of an input that are to be replaced, by axis."""
    if layout is None:
        return {0: batch} if batch is not None and tensor.shape else {}
    axes, wanted = layout.spatial, dict[int, Dim]()
    if symbolic and len(axes) in _SPATIAL:
        wanted = dict(zip(axes, _SPATIAL[len(axes)], strict=True))
    if layout.batch is not None and (batch is not None or wanted):
        wanted[layout.batch] = BATCH_SYMBOL if batch is None else batch
    if input_size is not None and len(axes) == len(input_size):
        wanted |= dict(zip(axes, input_size, strict=True))
    return wanted


def _pinned_tensor(tensor: Tensor, wanted: Mapping[int, Dim]) -> Tensor:
    if tensor.shape is None:
        return tensor
    dims = tuple(wanted.get(axis, dim) for axis, dim in enumerate(tensor.shape))
    return Tensor(tensor.name, tensor.dtype, dims)


def _pin_inputs(proto: ModelProto, wanted: Mapping[str, Mapping[int, Dim]]) -> ModelProto:
    """A copy of the model whose inputs have the wanted dimensions."""
    if not any(wanted.values()):
        return proto
    pinned = ModelProto()
    pinned.CopyFrom(proto)
    replaced: dict[str, int] = {}
    contradicted = False
    for value in pinned.graph.input:
        for axis, size in wanted.get(text(value.name), {}).items():
            dim = value.type.tensor_type.shape.dim[axis]
            if isinstance(size, str):
                contradicted = True
                dim.dim_param = size
                continue
            if dim.dim_param:
                replaced[dim.dim_param] = size
            contradicted |= dim.HasField("dim_value") and dim.dim_value != size
            dim.dim_value = size
    _pin_declared(pinned, replaced, keep=not contradicted)
    return pinned


def _pin_declared(proto: ModelProto, replaced: Mapping[str, int], *, keep: bool) -> None:
    """Make the declared shapes of inner tensors and outputs agree with the pinned inputs."""
    if not keep:
        del proto.graph.value_info[:]
    for value in (*proto.graph.value_info, *proto.graph.output):
        shape = value.type.tensor_type.shape
        for dim in shape.dim:
            if dim.dim_param in replaced:
                dim.dim_value = replaced[dim.dim_param]
            elif not keep or (replaced and dim.dim_param):
                # It may be computed from a replaced dimension: onnx finds its value anew.
                dim.Clear()
