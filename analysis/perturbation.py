"""Perturbation: a copy of the network in which a lit pixel lights all that it can reach.

In the network itself contributions may cancel, a ReLU may swallow them, and a global operator
carries every pixel everywhere. In the copy every tensor on the image's way holds 0 and 1: weights
are ones, sums are cut off at 1, activations pass on what they get, and what a global operator adds
is left out, so that a 1 stands exactly where a lit pixel arrives over paths that stay local. The
copy needs no weights, and one output channel of a Conv stands for all of its group.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from convlens.analysis.field import Field
from convlens.analysis.graph import Graph
from convlens.analysis.lit_copy import LitCopy
from convlens.analysis.operators import (
    COPIES,
    ELEMENTWISE,
    GLOBAL_POOLINGS,
    REDUCTIONS,
    SHAPE_ARITHMETIC,
)
from convlens.analysis.receptive_field import step_at
from convlens.analysis.shape import Tensors, fixed, shape_of
from convlens.analysis.shape_products import einsum_labels
from convlens.analysis.sliding_window import CONVOLUTIONS, POOLINGS
from convlens.analysis.step import Step
from convlens.analysis.transfers_mixing import reduced_axes

if TYPE_CHECKING:
    from onnx import ModelProto

# Their operands are broadcast to one shape; the other operators have one operand and parameters.
_JOINING = frozenset({
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater",
    "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu",
    "Pow", "Sub", "Sum", "Where", "Xor",
})  # fmt: skip
_NORMALISATIONS = frozenset({
    "BatchNormalization", "GroupNormalization", "InstanceNormalization", "LRN",
    "LayerNormalization", "LogSoftmax", "LpNormalization", "MeanVarianceNormalization",
    "RMSNormalization", "Softmax",
})  # fmt: skip
_MOVES = frozenset({
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Reshape", "Slice", "SpaceToDepth",
    "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
})  # fmt: skip
_WINDOW_ATTRIBUTES = frozenset({
    "auto_pad", "dilations", "kernel_shape", "output_padding", "output_shape", "pads", "strides",
})  # fmt: skip
# What rounding leaves of a weight that is nought.
_ROUNDING = 1e-4


def lit_copy(
    proto: "ModelProto",
    graph: Graph,
    tensors: Tensors,
    fields: Mapping[str, Field],
    opset: int,
    image_axis: int,
    places: Sequence[tuple[str, Mapping[int, Sequence[int]]]],
) -> "ModelProto":
    """Build the copy for perturbing along one image axis.

    Args:
        proto: the model; its weights may be missing.
        graph: the same model's graph.
        tensors: their shapes, without a symbolic dimension on the image's way.
        fields: of the tensors.
        opset: the version of ONNX's own operators.
        image_axis: what a global operator adds along it is left out.
        places: the tensors that are looked at, and where: the positions on some of their axes. They
            are the copy's outputs, in this order.

    Raises:
        SymbolicShapeError: a shape that the copy needs is not known.
    """
    originals = {output: node for node in proto.graph.node for output in node.output if output}
    copy = LitCopy(image_axis, opset, tensors)
    for node in graph.nodes:
        step = step_at(node, graph, tensors, fields, opset)
        if not any(step.fields) or node.op_type in SHAPE_ARITHMETIC:
            copy.nodes.append(originals[node.output])
        else:
            _REWRITES.get(step.op_type, _leave_dark)(copy, step)
    outputs = [copy.picked(name, where) for name, where in places]
    pictures = [tensor.name for tensor in graph.inputs if tensor.name in fields]
    return copy.finished(proto, pictures, outputs)


def _leave_dark(copy: LitCopy, step: Step) -> None:
    """What an operator adds that is not understood, or is global, is left out."""
    for name in filter(None, step.node.outputs):
        copy.dark(shape_of(name, copy.tensors), name)


def _pass_on(copy: LitCopy, step: Step) -> None:
    copy.add("Identity", [step.node.inputs[0]], step.node.output)


def _join(copy: LitCopy, step: Step) -> None:
    """What lights any operand; a constant one counts for its shape alone."""
    inputs = list(zip(step.node.inputs, step.fields, step.shapes, strict=True))
    operands = [name for name, seen, _ in inputs if seen is not None]
    if not any(seen is not None and shape == step.output for _, seen, shape in inputs):
        operands += [copy.dark(shape) for name, seen, shape in inputs if name and seen is None]
    copy.unite(operands, step.node.output)


def _add_quantised(copy: LitCopy, step: Step) -> None:
    """QLinearAdd and QLinearMul: each operand is followed by its scale and zero point."""
    lit = [name for name, seen in zip(step.node.inputs, step.fields, strict=True) if seen]
    copy.spread(lit, step.output, step.node.output)


def _convolve(copy: LitCopy, step: Step) -> None:
    """Ones as weights; with a single group one channel stands for all, before and after."""
    transposed = step.op_type == "ConvTranspose"
    weight = list(fixed(step.shape(3 if step.op_type == "QLinearConv" else 1) or ()))
    groups, data = step.node.attributes.get("group", 1), step.node.inputs[0]
    channels = weight[int(transposed)]
    if groups == 1:
        weight[:2] = 1, 1
        data = copy.highest(data, [1])
    attributes = {
        name: value for name, value in step.node.attributes.items() if name in _WINDOW_ATTRIBUTES
    }
    op_type = "ConvTranspose" if transposed else "Conv"
    operands = [data, copy.constant(np.ones(weight))]
    lit = copy.capped(copy.add(op_type, operands, **attributes, group=groups))
    repeats = [1, channels if groups == 1 else 1, *(1 for _ in weight[2:])]
    copy.add("Expand", [lit, copy.constant(repeats, np.int64)], step.node.output)


def _pool(copy: LitCopy, step: Step) -> None:
    op_type = step.op_type.removeprefix("QLinear")
    pooled = copy.add(op_type, [step.node.inputs[0]], **step.node.attributes)
    # The largest value of a window in the padding alone is the lowest number there is.
    copy.add("Sign", [copy.capped(pooled)], step.node.output)


def _reduce(copy: LitCopy, step: Step) -> None:
    """The largest value along the axes, or nothing where the image axis goes with them."""
    seen = step.known_fields[0]
    rank = len(seen.axes)
    is_pooling = step.op_type.removeprefix("QLinear") in GLOBAL_POOLINGS
    axes = list(range(2, rank)) if is_pooling else reduced_axes(step, rank)
    if axes is None or copy.loses(seen, axes):
        _leave_dark(copy, step)
    else:
        keep = is_pooling or bool(step.node.attributes.get("keepdims", 1))
        copy.highest(step.node.inputs[0], axes, step.node.output, keep=keep)


def _multiply(copy: LitCopy, step: Step) -> None:
    """MatMul: the rows of the first operand reach every column, and the other way round."""
    second_input = 3 if step.op_type == "QLinearMatMul" else 1
    first, second = step.field(0), step.field(second_input)
    terms = []
    if first is not None and not copy.loses(first, [len(first.axes) - 1]):
        terms.append(copy.highest(step.node.inputs[0], [len(first.axes) - 1]))
    if second is not None:
        rank = len(second.axes)
        axes = [rank - 2] if first is None else [rank - 2, rank - 1]
        if not copy.loses(second, axes):
            terms.append(copy.highest(step.node.inputs[second_input], axes))
    copy.spread(terms, step.output, step.node.output)


def _connect_fully(copy: LitCopy, step: Step) -> None:
    """Gemm: the rows of the first operand reach every column."""
    data = step.field(0)
    axis = 0 if step.node.attributes.get("transA", 0) else 1
    terms = []
    if data is not None and not copy.loses(data, [axis]):
        rows = copy.highest(step.node.inputs[0], [axis])
        terms.append(copy.add("Transpose", [rows], perm=[1, 0]) if axis == 0 else rows)
    if step.field(2) is not None:
        terms.append(step.node.inputs[2])
    copy.spread(terms, step.output, step.node.output)


def _sum_products(copy: LitCopy, step: Step) -> None:
    """Einsum of the image and constants; with two images the second one's part is global."""
    if len(step.known_fields) > 1:
        _leave_dark(copy, step)
        return
    equation = str(step.node.attributes.get("equation", ""))
    shapes = [fixed(shape or ()) for shape in step.shapes]
    labels = einsum_labels(equation, list(map(len, shapes)))
    if labels is None:
        _leave_dark(copy, step)
        return
    terms, result = labels
    operands = []
    for name, seen, shape, term in zip(step.node.inputs, step.fields, shapes, terms, strict=True):
        gone = [axis for axis, label in enumerate(term) if label not in result]
        if seen is not None and copy.loses(seen, gone):
            _leave_dark(copy, step)
            return
        operands.append(name if seen is not None else copy.constant(np.ones(shape)))
    summed = copy.add("Einsum", operands, equation=equation)
    copy.add("Sign", [summed], step.node.output)


def _accumulate(copy: LitCopy, step: Step) -> None:
    """CumSum along an image axis is global; along another every channel stands for all."""
    seen, axes = step.known_fields[0], step.integers(1)
    if not axes or copy.loses(seen, [axes[0] % len(seen.axes)]):
        _leave_dark(copy, step)
    else:
        _pass_on(copy, step)


def _move(copy: LitCopy, step: Step) -> None:
    """Values move as in the network; constants beside the image are dark."""
    inputs = list(step.node.inputs)
    if step.op_type == "Concat":
        inputs = [
            name if seen is not None else copy.dark(shape)
            for name, seen, shape in zip(inputs, step.fields, step.shapes, strict=True)
        ]
    copy.nodes.append(
        helper.make_node(step.op_type, inputs, step.node.outputs, **step.node.attributes)
    )


def _write(copy: LitCopy, step: Step) -> None:
    """ScatterND of rows that are named ahead; constants are dark."""
    if step.field(1) is not None:
        _leave_dark(copy, step)
        return
    data, indices, updates = (
        name if index == 1 or seen is not None else copy.dark(shape)
        for index, (name, seen, shape) in enumerate(
            zip(step.node.inputs, step.fields, step.shapes, strict=True)
        )
    )
    copy.add("ScatterND", [data, indices, updates], step.node.output)


def _pad(copy: LitCopy, step: Step) -> None:
    inputs = list(step.node.inputs)
    attributes = {name: v for name, v in step.node.attributes.items() if name != "value"}
    if len(inputs) > 2:
        inputs[2] = ""
    copy.add("Pad", inputs, step.node.output, **attributes)


def _resize(copy: LitCopy, step: Step) -> None:
    """A cubic has negative weights, and what is nought may be off by a rounding."""
    resized = copy.add(step.op_type, step.node.inputs, **step.node.attributes)
    bright = copy.add("Greater", [copy.add("Abs", [resized]), copy.constant(_ROUNDING)])
    copy.add("Cast", [bright], step.node.output, to=TensorProto.FLOAT)


_REWRITES: Mapping[str, Callable[[LitCopy, Step], None]] = {
    **dict.fromkeys(ELEMENTWISE | COPIES | _NORMALISATIONS, _pass_on),
    **dict.fromkeys(_JOINING, _join),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), _add_quantised),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"), _pass_on),
    **dict.fromkeys(CONVOLUTIONS | {"ConvTranspose", "FusedConv"}, _convolve),
    **dict.fromkeys(POOLINGS | {"QLinearAveragePool"}, _pool),
    **dict.fromkeys(GLOBAL_POOLINGS | REDUCTIONS | {"QLinearGlobalAveragePool"}, _reduce),
    **dict.fromkeys(("FusedMatMul", "MatMul", "MatMulInteger", "QLinearMatMul"), _multiply),
    **dict.fromkeys(_MOVES, _move),
    "CumSum": _accumulate,
    "Einsum": _sum_products,
    "Gemm": _connect_fully,
    "Pad": _pad,
    "Resize": _resize,
    "ScatterND": _write,
    "Upsample": _resize,
}
