"""Shape functions: the shapes of an operator's outputs from the shapes of its inputs.

`SHAPE_FUNCTIONS` maps an op_type to its function. They carry symbolic dimensions through as exact
formulas where onnx's own inference gives up.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from convlens.analysis.bounds import least
from convlens.analysis.dimensions import to_dim
from convlens.analysis.graph import Attributes
from convlens.analysis.operators import (
    COPIES,
    ELEMENTWISE,
    GLOBAL_POOLINGS,
    QUANTISED_TWINS,
    REDUCTIONS,
)
from convlens.analysis.shape_moves import MOVING_SHAPES
from convlens.analysis.shape_step import (
    Counts,
    ShapeFunction,
    Shapes,
    ShapeStep,
    broadcast,
    common_size,
)
from convlens.analysis.sliding_window import CONVOLUTIONS, POOLINGS, SlidingWindow, sliding_windows
from convlens.analysis.symbolic import Count, floor_quotient


def output_shapes(step: ShapeStep) -> Shapes:
    """The shapes of the operator's outputs; None where they cannot be told."""
    function = SHAPE_FUNCTIONS.get(step.node.op_type)
    if function is None:
        return None
    try:
        return function(step)
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError):
        # Attributes and shapes that contradict each other, as in a damaged file.
        return None


def _elementwise(step: ShapeStep) -> Shapes:
    shapes = [shape for name, shape in zip(step.node.inputs, step.shapes, strict=True) if name]
    known = [shape for shape in shapes if shape is not None]
    return [broadcast(known)] if known and len(known) == len(shapes) else None


def _like_first(step: ShapeStep) -> Shapes:
    return [step.shape(0)]


def _like_first_twice(step: ShapeStep) -> Shapes:
    return [step.shape(0), step.shape(0)]


def _batch_normalization(step: ShapeStep) -> Shapes:
    return [step.shape(0), *([step.shape(1)] * (len(step.node.outputs) - 1))]


def _quantised_elementwise(step: ShapeStep) -> Shapes:
    first, second = step.shape(0), step.shape(3)
    return None if first is None or second is None else [broadcast([first, second])]


def _sliding(step: ShapeStep) -> Shapes:
    data = step.shape(0)
    if step.attribute("channels_last", 0):
        return None
    twin = QUANTISED_TWINS.get(step.node.op_type, step.node.op_type)
    weight = step.shape(_weight_index(step)) if twin in CONVOLUTIONS else None
    if data is None or (twin in CONVOLUTIONS and weight is None):
        return None
    windows = sliding_windows(
        twin, step.node.attributes, _dims(data), None if weight is None else _dims(weight)
    )
    if windows is None:
        return None
    channels = data[1] if weight is None else weight[0]
    sizes = [
        _output_size(step, window, size) for window, size in zip(windows, data[2:], strict=True)
    ]
    shape = (data[0], channels, *sizes)
    # A MaxPool may give the places of its maxima too.
    return [shape] * len(step.node.outputs)


def _weight_index(step: ShapeStep) -> int:
    return 3 if step.node.op_type in {"QLinearConv", "com.microsoft::QLinearConv"} else 1


def _output_size(step: ShapeStep, window: SlidingWindow, size: Count) -> Count:
    """floor((W - k' + P) / S) + 1, rounded up with ceil_mode; see `SlidingWindow.output_size`."""
    if isinstance(size, int) and window.pad_begin is not None:
        output = window.output_size(size)
        if output is not None:
            return output
    if window.pad_begin is None or window.pad_end is None:
        # auto_pad SAME: O = ceil(W / S)
        return -floor_quotient(-size, window.stride)
    room = size + window.pad_begin + window.pad_end - window.extent
    if not step.attribute("ceil_mode", 0):
        return room // window.stride + 1
    # The last window has to start before the end padding does.
    last_start = (size + window.pad_begin - 1) // window.stride
    return least(-floor_quotient(-room, window.stride), last_start) + 1


def _conv_transpose(step: ShapeStep) -> Shapes:
    """O = S (W - 1) + output_padding + k' - P_begin - P_end; with SAME at most S W.

    Source: ONNX operator specification, ConvTranspose.
    """
    data, weight = step.shape(0), step.shape(1)
    if data is None or weight is None:
        return None
    rank = len(data) - 2
    channels = weight[1] * step.attribute("group", 1)
    if step.attribute("output_shape"):
        return [(data[0], channels, *step.attribute("output_shape"))]
    kernel = step.attribute("kernel_shape") or weight[2:]
    strides = step.attribute("strides") or (1,) * rank
    dilations = step.attribute("dilations") or (1,) * rank
    extra = step.attribute("output_padding") or (0,) * rank
    extents = [dilations[axis] * (kernel[axis] - 1) + 1 for axis in range(rank)]
    full = [
        strides[axis] * (data[axis + 2] - 1) + extra[axis] + extents[axis] for axis in range(rank)
    ]
    auto_pad = step.attribute("auto_pad") or "NOTSET"
    pads = (0,) * 2 * rank
    if auto_pad == "NOTSET":
        pads = step.attribute("pads") or pads
    elif auto_pad.startswith("SAME"):
        full = [least(size, data[axis + 2] * strides[axis]) for axis, size in enumerate(full)]
    sizes = [size - pads[axis] - pads[axis + rank] for axis, size in enumerate(full)]
    return [(data[0], channels, *sizes)]


def _global_pooling(step: ShapeStep) -> Shapes:
    data = step.shape(0)
    if data is None:
        return None
    if step.attribute("channels_last", 0):
        return [(data[0], *(1,) * (len(data) - 2), data[-1])]
    return [(*data[:2], *(1,) * (len(data) - 2))]


def _gemm(step: ShapeStep) -> Shapes:
    first, second = step.shape(0), step.shape(_second_index(step))
    if first is None or second is None:
        return None
    rows = first[1] if step.attribute("transA", 0) else first[0]
    columns = second[0] if step.attribute("transB", 0) else second[1]
    return [(rows, columns)]


def _second_index(step: ShapeStep) -> int:
    """Where the second operand of a product stands."""
    return 3 if "QLinear" in step.node.op_type or "QGemm" in step.node.op_type else 1


def _matmul(step: ShapeStep) -> Shapes:
    first, second = step.shape(0), step.shape(_second_index(step))
    if not first or not second:
        return None
    first = as_multiplied(first, step.node.attributes, "A")
    second = as_multiplied(second, step.node.attributes, "B")
    batch = broadcast([first[:-2], second[:-2]]) if len(first) > 2 or len(second) > 2 else ()
    rows = first[-2:-1] if len(first) > 1 else ()
    columns = second[-1:] if len(second) > 1 else ()
    return [(*batch, *rows, *columns)]


def as_multiplied(shape: Counts, attributes: Attributes, side: str) -> Counts:
    """The shape in which a product takes an operand, which a FusedMatMul may transpose first.

    Args:
        shape: of the operand.
        attributes: of the product.
        side: "A" for the first operand, "B" for the second.

    Source: onnxruntime's contributed operators, FusedMatMul.
    """
    if attributes.get(f"transBatch{side}", 0):
        shape = (*shape[1:-1], shape[0], shape[-1])
    if attributes.get(f"trans{side}", 0):
        shape = (*shape[:-2], shape[-1], shape[-2])
    return shape


def _einsum(step: ShapeStep) -> Shapes:
    terms = einsum_terms(step.attribute("equation", ""), step.shapes)
    if terms is None:
        return None
    sizes, output = terms
    return [tuple(sizes[label] for label in output)]


def einsum_terms(
    equation: str, shapes: Sequence[Counts | None]
) -> tuple[dict[str, Count], list[str]] | None:
    """The size of each label of an Einsum, and the labels of its output in order.

    An ellipsis stands for as many labels, "...0" and on, as the operand has axes left.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    if len(operands) != len(shapes):
        return None
    sizes: dict[str, Count] = {}
    for operand, shape in zip(operands, shapes, strict=True):
        if shape is None:
            return None
        labels = _labels(operand, len(shape))
        for label, dim in zip(labels, shape, strict=True):
            sizes[label] = common_size([sizes.get(label, 1), dim])
    hidden = sorted(label for label in sizes if label.startswith("..."))
    if arrow:
        before, dots, after = right.partition("...")
        return sizes, [*before, *(hidden if dots else ()), *after]
    once = sorted(label for label in sizes if label not in hidden and left.count(label) == 1)
    return sizes, [*hidden, *once]


def _labels(operand: str, rank: int) -> list[str]:
    before, dots, after = operand.partition("...")
    hidden = rank - len(before) - len(after) if dots else 0
    # Counted from the right, as broadcasting does.
    return [*before, *(f"...{index:03}" for index in range(999 - hidden, 999)), *after]


def _reduction(step: ShapeStep) -> Shapes:
    data = step.shape(0)
    if data is None:
        return None
    if step.node.op_type in {"ArgMax", "ArgMin"}:
        axes: list[Any] | None = [step.attribute("axis", 0)]
    else:
        axes = step.integers("axes", 1)
        if step.has(1) and axes is None:
            return None
    if not axes:
        if step.attribute("noop_with_empty_axes", 0):
            return [data]
        axes = list(range(len(data)))
    reduced = {int(axis) % len(data) for axis in axes}
    if step.attribute("keepdims", 1):
        return [tuple(1 if axis in reduced else dim for axis, dim in enumerate(data))]
    return [tuple(dim for axis, dim in enumerate(data) if axis not in reduced)]


def _attention(step: ShapeStep) -> Shapes:
    """The first output has the query's rows and the value's columns; the caches are not told."""
    query, value = step.shape(0), step.shape(2)
    if query is None or value is None:
        return None
    if len(query) == 4:
        return [(*query[:3], value[3])]
    heads, value_heads = step.attribute("q_num_heads", 1), step.attribute("kv_num_heads", 1)
    return [(query[0], query[1], value[2] // value_heads * heads)]


def _dynamic_quantize(step: ShapeStep) -> Shapes:
    return [step.shape(0), (), ()]


def _q_linear_concat(step: ShapeStep) -> Shapes:
    # Scale and zero point of the output, then (tensor, scale, zero point) each.
    shapes = [shape for shape in step.shapes[2::3] if shape is not None]
    axis = step.attribute("axis", 1)
    dims = list(shapes[0])
    dims[axis] = sum((shape[axis] for shape in shapes[1:]), start=shapes[0][axis])
    return [tuple(dims)]


def _bias_matmul(step: ShapeStep) -> Shapes:
    """MatMulNBits: the weight is packed, its size is in the attributes."""
    data = step.shape(0)
    return None if data is None else [(*data[:-1], step.attribute("N"))]


def _dims(shape: Counts) -> tuple[int | str, ...]:
    return tuple(map(to_dim, shape))


# Beside the elementwise ones, operators whose output has the shape of their first input.
_LIKE_FIRST = COPIES - {"Dropout"} | {
    "Clip", "CumSum", "DequantizeLinear", "EyeLike", "GroupNormalization", "Hardmax",
    "InstanceNormalization", "LRN", "LayerNormalization", "LogSoftmax", "LpNormalization",
    "MeanVarianceNormalization", "PRelu", "QuantizeLinear", "RMSNormalization", "RotaryEmbedding",
    "ScatterElements", "ScatterND", "Softmax", "Trilu",
    "com.microsoft::BiasGelu", "com.microsoft::DequantizeLinear", "com.microsoft::FastGelu",
    "com.microsoft::Gelu", "com.microsoft::GroupNorm", "com.microsoft::MultiHeadAttention",
    "com.microsoft::QLinearLeakyRelu", "com.microsoft::QLinearSigmoid",
    "com.microsoft::QLinearSoftmax", "com.microsoft::QuantizeLinear", "com.microsoft::QuickGelu",
    "com.microsoft::SkipLayerNormalization",
}  # fmt: skip

_MATRIX_PRODUCTS = {
    "MatMul", "MatMulInteger", "QLinearMatMul", "com.microsoft::DynamicQuantizeMatMul",
    "com.microsoft::FusedMatMul", "com.microsoft::MatMulIntegerToFloat",
}  # fmt: skip

SHAPE_FUNCTIONS: Mapping[str, ShapeFunction] = {
    **MOVING_SHAPES,
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(_LIKE_FIRST, _like_first),
    **dict.fromkeys(CONVOLUTIONS | POOLINGS, _sliding),
    "com.microsoft::FusedConv": _sliding,
    "com.microsoft::QLinearAveragePool": _sliding,
    "com.microsoft::QLinearConv": _sliding,
    **dict.fromkeys(GLOBAL_POOLINGS | {"com.microsoft::QLinearGlobalAveragePool"}, _global_pooling),
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(_MATRIX_PRODUCTS, _matmul),
    **dict.fromkeys(("Gemm", "com.microsoft::FusedGemm", "com.microsoft::QGemm"), _gemm),
    **dict.fromkeys(
        ("com.microsoft::QLinearAdd", "com.microsoft::QLinearMul"), _quantised_elementwise
    ),
    "Attention": _attention,
    "BatchNormalization": _batch_normalization,
    "ConvTranspose": _conv_transpose,
    "Dropout": _like_first_twice,
    "DynamicQuantizeLinear": _dynamic_quantize,
    "Einsum": _einsum,
    "com.microsoft::MatMulNBits": _bias_matmul,
    "com.microsoft::QLinearConcat": _q_linear_concat,
}
