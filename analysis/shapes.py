"""Shapes of every tensor: onnx's own inference on the graph without its weights, then checked.

What onnx leaves open is finished here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from convlens.analysis.errors import InputSizeError
from convlens.analysis.graph import Graph
from convlens.analysis.graph_reader import read_tensor, text
from convlens.analysis.shape import Dim, Shape, Tensor, Tensors, format_shape, format_size
from convlens.analysis.shape_checks import check_shapes

if TYPE_CHECKING:
    from onnx import ModelProto

# How onnx's inference names a dimension about which it knows nothing.
_UNKNOWN = "unk__"


@dataclass(frozen=True)
class InferredShapes:
    """The outcome of shape inference.

    Attributes:
        tensors: every tensor of the graph of which anything is known, by name.
        disputes: by the index of a node, how its output size by onnx differs from the formula's.
        notes: what else a reader must be told, a line each.
    """

    tensors: Tensors
    disputes: Mapping[int, str]
    notes: tuple[str, ...]


def infer_shapes(
    proto: "ModelProto",
    graph: Graph,
    batch: int | None = None,
    input_size: Sequence[int] | None = None,
) -> InferredShapes:
    """Find the shape and dtype of every tensor of the graph.

    Args:
        proto: the model without its weights.
        graph: the same model's graph.
        batch: replaces the first dimension of every input.
        input_size: replaces the spatial dimensions of every picture input (rank 3 or more).

    Raises:
        InputSizeError: no input is a picture of that many axes, or an operator cannot take the
            shape that reaches it.
    """
    pinned = _pin_inputs(proto, graph, batch, input_size)
    inferred, notes = _run_onnx(pinned)
    tensors = {name: stored.tensor for name, stored in graph.stored.items()}
    for value in (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input):
        tensor = read_tensor(value)
        tensors.setdefault(tensor.name, tensor)
    tensors = _finish_reshapes(graph, tensors)
    return InferredShapes(tensors, check_shapes(graph, tensors), notes)


def _pin_inputs(
    proto: "ModelProto", graph: Graph, batch: int | None, input_size: Sequence[int] | None
) -> "ModelProto":
    """A copy of the model whose inputs have the wanted dimensions."""
    from onnx import ModelProto

    pinned = ModelProto()
    pinned.CopyFrom(proto)
    wanted: dict[str, dict[int, int]] = {}
    for tensor in graph.inputs:
        rank = len(tensor.shape or ())
        dims = {0: batch} if batch is not None and rank > 0 else {}
        if input_size is not None and rank == len(input_size) + 2:
            dims |= dict(enumerate(input_size, start=2))
        wanted[tensor.name] = dims
    if input_size is not None and not any(len(dims) >= len(input_size) for dims in wanted.values()):
        shapes = ", ".join(f"[{format_shape(tensor.shape)}]" for tensor in graph.inputs) or "none"
        raise InputSizeError(
            f"no input has {len(input_size)} spatial axes to set to "
            f"{format_size(input_size)}: the inputs are {shapes}"
        )
    replaced: dict[str, int] = {}
    contradicted = False
    for value in pinned.graph.input:
        for axis, size in wanted.get(text(value.name), {}).items():
            dim = value.type.tensor_type.shape.dim[axis]
            if dim.dim_param:
                replaced[dim.dim_param] = size
            contradicted |= dim.HasField("dim_value") and dim.dim_value != size
            dim.dim_value = size
    _pin_declared(pinned, replaced, keep=not contradicted)
    return pinned


def _pin_declared(proto: "ModelProto", replaced: Mapping[str, int], *, keep: bool) -> None:
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


def _run_onnx(proto: "ModelProto") -> tuple["ModelProto", tuple[str, ...]]:
    from onnx.shape_inference import InferenceError, infer_shapes

    try:
        return infer_shapes(proto, data_prop=True), ()
    except InferenceError as error:
        reason = " ".join(str(error).split())
        return proto, (f"onnx's shape inference failed, only declared shapes are known: {reason}",)


def _finish_reshapes(graph: Graph, tensors: Tensors) -> dict[str, Tensor]:
    """Replace the dimensions that onnx invents for a Reshape's -1 by what they must be."""
    meaning: dict[str, Dim] = {}

    def known(shape: Shape) -> Shape:
        return tuple(meaning.get(dim, dim) if isinstance(dim, str) else dim for dim in shape)

    for node in graph.nodes:
        if node.op_type != "Reshape":
            continue
        data, reshaped = tensors.get(node.input(0)), tensors.get(node.output)
        if data is None or reshaped is None or data.shape is None or reshaped.shape is None:
            continue
        invented = [dim for dim in reshaped.shape if str(dim).startswith(_UNKNOWN)]
        if len(invented) == 1:
            rest = tuple(dim for dim in reshaped.shape if dim != invented[0])
            quotient = _quotient(known(data.shape), known(rest))
            if quotient is not None:
                meaning[str(invented[0])] = quotient
    return {
        name: tensor if tensor.shape is None else Tensor(name, tensor.dtype, known(tensor.shape))
        for name, tensor in tensors.items()
    }


def _quotient(dividend: Shape, divisor: Shape) -> Dim | None:
    """The dimension that makes `divisor` as large as `dividend`; None where it is not one."""
    symbols = Counter(dim for dim in dividend if isinstance(dim, str))
    symbols.subtract(dim for dim in divisor if isinstance(dim, str))
    left = [symbol for symbol, count in symbols.items() if count != 0]
    numerator = prod(dim for dim in dividend if isinstance(dim, int))
    denominator = prod(dim for dim in divisor if isinstance(dim, int))
    if denominator == 0 or numerator % denominator:
        return None
    ratio = numerator // denominator
    if not left:
        return ratio
    return left[0] if ratio == 1 and len(left) == 1 and symbols[left[0]] == 1 else None
