"""Transfer functions: what one operator does to the field of its inputs.

`TRANSFERS` maps an op_type to its function. An operator that is not in it leaves behind a field
that says so; one whose output holds no pixel, as Shape, gives None.
"""

from collections.abc import Mapping

from convlens.analysis.field import Field, Missing, unknown_field
from convlens.analysis.operators import (
    COPIES,
    ELEMENTWISE,
    GLOBAL_POOLINGS,
    REDUCTIONS,
    RESHAPES,
    SHAPE_ARITHMETIC,
)
from convlens.analysis.sliding_window import CONVOLUTIONS, POOLINGS
from convlens.analysis.step import Step, Transfer
from convlens.analysis.transfers_blocks import depth_to_space, space_to_depth
from convlens.analysis.transfers_choices import CHOICES
from convlens.analysis.transfers_mixing import (
    accumulated,
    attention,
    axes_from,
    einstein_sum,
    fully_connected,
    global_pooling,
    listed_axes,
    matrix_product,
    normalised,
    one_axis,
    reduced,
    softmax_axes,
    spatial_axes,
)
from convlens.analysis.transfers_moves import (
    broadcast_to,
    concatenated,
    expanded,
    padded,
    reshaped,
    sliced,
    split,
    tiled,
    transposed_axes,
)
from convlens.analysis.transfers_windows import resized, sliding, transposed


def apply(step: Step) -> Field | None:
    """The field of an operator's output; None where no pixel reaches it."""
    transfer = TRANSFERS.get(step.node.op_type)
    if transfer is _no_pixels:
        return None
    if transfer is None:
        return unknown_field(step.known_fields, step.output, Missing.OPERATOR)
    if any(not field.axes for field in step.known_fields):
        return step.unknown()
    return transfer(step)


def _elementwise(step: Step) -> Field:
    """Every position sees what the same position of each input sees."""
    field = step.joined()
    if step.output is None or len(step.output) < len(field.axes):
        return field
    # A constant operand may add axes in front, or stretch axes of length 1.
    return broadcast_to(field, step.output)


def _no_pixels(_: Step) -> None:
    return None


# Beside the values, their scales and zero points.
_QUANTISED_ELEMENTWISE = {"QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu"}
_MICROSOFTS_ELEMENTWISE = {"BiasGelu", "FastGelu", "Gelu", "QuickGelu", *_QUANTISED_ELEMENTWISE}

TRANSFERS: Mapping[str, Transfer] = {
    **dict.fromkeys(ELEMENTWISE | COPIES, _elementwise),
    **dict.fromkeys({"BatchNormalization", "DynamicQuantizeLinear", "LRN"}, _elementwise),
    **dict.fromkeys(CONVOLUTIONS | POOLINGS, sliding),
    **dict.fromkeys(GLOBAL_POOLINGS, global_pooling),
    **dict.fromkeys(REDUCTIONS, reduced),
    **dict.fromkeys(RESHAPES, reshaped),
    **dict.fromkeys(SHAPE_ARITHMETIC, _no_pixels),
    **dict.fromkeys({"MatMul", "MatMulInteger", "QLinearMatMul"}, matrix_product),
    **CHOICES,
    **dict.fromkeys({"LogSoftmax", "Softmax"}, normalised(softmax_axes)),
    "Attention": attention,
    "Concat": concatenated,
    "ConvTranspose": transposed,
    "CumSum": accumulated,
    "DepthToSpace": depth_to_space,
    "Einsum": einstein_sum,
    "Expand": expanded,
    "Gemm": fully_connected,
    "GroupNormalization": normalised(spatial_axes),
    "InstanceNormalization": normalised(spatial_axes),
    "LayerNormalization": normalised(axes_from(-1)),
    "LpNormalization": normalised(one_axis),
    "MeanVarianceNormalization": normalised(listed_axes((0, 2, 3))),
    "Pad": padded,
    "RMSNormalization": normalised(axes_from(-1)),
    "Resize": resized,
    "Slice": sliced,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Tile": tiled,
    "Transpose": transposed_axes,
    "Upsample": resized,
    **dict.fromkeys((f"com.microsoft::{name}" for name in _MICROSOFTS_ELEMENTWISE), _elementwise),
    "com.microsoft::FusedConv": sliding,
    "com.microsoft::FusedMatMul": matrix_product,
    "com.microsoft::QLinearAveragePool": sliding,
    "com.microsoft::QLinearGlobalAveragePool": global_pooling,
    "com.microsoft::QLinearSoftmax": normalised(softmax_axes),
}
