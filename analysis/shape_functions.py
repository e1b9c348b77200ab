"""Shape functions: the shapes of an operator's outputs from the shapes of its inputs.

`SHAPE_FUNCTIONS` maps an op_type to its function. They carry symbolic dimensions through as exact
formulas where onnx's own inference gives up.
"""

from collections.abc import Mapping
from typing import Any

from convlens.analysis.bounds import least
from convlens.analysis.dimensions import to_dim
from convlens.analysis.operators import (
    COPIES,
    ELEMENTWISE,
    GLOBAL_POOLINGS,
    QUANTISED_TWINS,
    REDUCTIONS,
)
from convlens.analysis.shape_moves import MOVING_SHAPES
from convlens.analysis.shape_products import PRODUCT_SHAPES
from convlens.analysis.shape_step import (
    Counts,
    ShapeFunction,
    Shapes,
    ShapeStep,
    broadcast,
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


def _dynamic_quantize(step: ShapeStep) -> Shapes:
    return [step.shape(0), (), ()]


def _q_linear_concat(step: ShapeStep) -> Shapes:
    # Scale and zero point of the output, then (tensor, scale, zero point) each.
    shapes = [shape for shape in step.shapes[2::3] if shape is not None]
    axis = step.attribute("axis", 1)
    dims = list(shapes[0])
    dims[axis] = sum((shape[axis] for shape in shapes[1:]), start=shapes[0][axis])
    return [tuple(dims)]


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

SHAPE_FUNCTIONS: Mapping[str, ShapeFunction] = {
    **MOVING_SHAPES,
    **PRODUCT_SHAPES,
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(_LIKE_FIRST, _like_first),
    **dict.fromkeys(CONVOLUTIONS | POOLINGS, _sliding),
    "com.microsoft::FusedConv": _sliding,
    "com.microsoft::QLinearAveragePool": _sliding,
    "com.microsoft::QLinearConv": _sliding,
    **dict.fromkeys(GLOBAL_POOLINGS | {"com.microsoft::QLinearGlobalAveragePool"}, _global_pooling),
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(
        ("com.microsoft::QLinearAdd", "com.microsoft::QLinearMul"), _quantised_elementwise
    ),
    "BatchNormalization": _batch_normalization,
    "ConvTranspose": _conv_transpose,
    "Dropout": _like_first_twice,
    "DynamicQuantizeLinear": _dynamic_quantize,
    "com.microsoft::QLinearConcat": _q_linear_concat,
}
