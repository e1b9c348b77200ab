"""Transfer functions of the operators that slide a window or resample."""

from dataclasses import replace

from convlens.analysis.digits import Digit
from convlens.analysis.field import Field, mixed, reached
from convlens.analysis.reach import Reach, transposed_reach, window_reach
from convlens.analysis.regroup import regroup
from convlens.analysis.resize import Resampling
from convlens.analysis.shape import Dim
from convlens.analysis.sliding_window import CONVOLUTIONS, sliding_windows, transposed_windows
from convlens.analysis.step import Step

# Which input holds the kernel.
_WEIGHT = {"QLinearConv": 3}


def sliding(step: Step) -> Field:
    """Conv and pooling: a window slides along the axes from the third on; Conv mixes channels."""
    field = step.field(0)
    op_type = {"FusedConv": "Conv", "QLinearAveragePool": "AveragePool"}.get(
        step.op_type, step.op_type
    )
    weight = step.shape(_WEIGHT.get(op_type, 1)) if op_type in CONVOLUTIONS else None
    windows = sliding_windows(op_type, step.node.attributes, step.shape(0), weight)
    if field is None or windows is None or len(field.axes) != len(windows) + 2:
        return step.unknown()
    if step.node.attributes.get("channels_last", 0) or any(step.fields[1:]):
        return step.unknown()
    rank = len(field.axes)
    if op_type in CONVOLUTIONS:
        field = _channels_mixed(field, step, step.length(1, rank))
    for axis, window in enumerate(windows, start=2):
        if not window.is_pointwise:
            field = reached(field, axis, window_reach(window), step.length(axis, rank))
    return field


def _channels_mixed(field: Field, step: Step, channels: Dim) -> Field:
    """The field after every output channel has seen all input channels of its group."""
    groups = step.node.attributes.get("group", 1)
    walks = bool(field.image_axes(1))
    if groups == 1 or not walks:
        field = mixed(field, 1, channels, step.node.index)
        return replace(field, is_blended=False) if field.is_blended and groups == 1 else field
    shape = step.shape(0)
    if shape is None or not isinstance(shape[1], int) or not isinstance(channels, int):
        return step.unknown()
    split = regroup((field.axes[1],), (groups, shape[1] // groups))
    if split is None or shape[1] % groups or channels % groups:
        return step.unknown()
    field = replace(field, axes=(field.axes[0], *split, *field.axes[2:]))
    field = mixed(field, 2, channels // groups, step.node.index)
    together = tuple(digit for digit in (*field.axes[1], *field.axes[2]) if digit.length != 1)
    return replace(
        field, axes=(field.axes[0], together or (Digit(1),), *field.axes[3:])
    )  # fmt: skip


def transposed(step: Step) -> Field:
    """ConvTranspose: a window slides along the output."""
    field = step.field(0)
    windows = transposed_windows(step.node.attributes, step.shape(0), step.shape(1), step.output)
    if field is None or windows is None or len(field.axes) != len(windows) + 2:
        return step.unknown()
    rank = len(field.axes)
    channels = step.length(1, rank)
    # Its weight is (in_channels, out_channels / groups, *kernel); groups work as in Conv.
    field = _channels_mixed(field, step, channels)
    for axis, window in enumerate(windows, start=2):
        field = reached(field, axis, transposed_reach(window), step.length(axis, rank))
    return field


def resized(step: Step) -> Field:
    """Resize and Upsample: every output reads the inputs nearest to it."""
    field, attributes = step.field(0), step.node.attributes
    if field is None:
        return step.unknown()
    rank = len(field.axes)
    # Upsample and the first Resize know one way to find a coordinate and one to round it.
    old = step.op_type == "Upsample" or step.opset < _COORDINATE_MODES_SINCE
    mode = str(attributes.get("mode", "nearest"))
    resampling = Resampling(
        mode={"bilinear": "linear", "trilinear": "linear"}.get(mode, mode),
        coordinates="asymmetric"
        if old
        else attributes.get("coordinate_transformation_mode", "half_pixel"),
        rounding="floor" if old else attributes.get("nearest_mode", "round_prefer_floor"),
        antialias=bool(attributes.get("antialias", 0)),
        exclude_outside=bool(attributes.get("exclude_outside", 0)),
    )
    scales = step.numbers(1 if old else 2, "scales") or None
    axes = attributes.get("axes") or range(rank)
    by_axis = dict(zip((axis % rank for axis in axes), scales, strict=False)) if scales else {}
    keeps_ratio = attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch"
    for axis in range(rank):
        if not field.image_axes(axis):
            field = field.with_axis(axis, (Digit(step.length(axis, rank)),))
            continue
        shape = step.shape(0)
        length = shape[axis] if shape else "?"
        reach: Reach | None = None
        if not keeps_ratio:
            reach = resampling.reach(length, step.length(axis, rank), by_axis.get(axis))
        field = reached(field, axis, reach, step.length(axis, rank))
    return field


_COORDINATE_MODES_SINCE = 11
