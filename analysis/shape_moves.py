"""Shape functions of the operators that move values, and of those that make shapes."""

from collections.abc import Mapping
from fractions import Fraction
from math import floor
from struct import pack, unpack
from typing import Any

from convlens.analysis.bounds import greatest, is_at_most, least
from convlens.analysis.shape_step import (
    ShapeFunction,
    Shapes,
    ShapeStep,
    broadcast,
    common_size,
    cut,
    slice_bounds,
)
from convlens.analysis.symbolic import Count, floor_quotient, product


def _flatten(step: ShapeStep) -> Shapes:
    data = step.shape(0)
    if data is None:
        return None
    axis = step.attribute("axis", 1)
    if not -len(data) <= axis <= len(data):
        raise ValueError("a Flatten behind the last axis")
    axis += len(data) if axis < 0 else 0
    return [(product(data[:axis]), product(data[axis:]))]


def _reshape(step: ShapeStep) -> Shapes:
    data, target = step.shape(0), step.integers("shape", 1)
    if target is None:
        return None
    keep_zero = step.attribute("allowzero", 0)
    dims: list[Count] = []
    for axis, dim in enumerate(target):
        copied = dim == 0 and not keep_zero
        if copied and data is None:
            return None
        dims.append(data[axis] if copied and data is not None else dim)
    if -1 in dims:
        if data is None:
            return None
        rest = product(dim for dim in dims if dim != -1)
        dims[dims.index(-1)] = floor_quotient(product(data), rest)
    return [tuple(dims)]


def _transpose(step: ShapeStep) -> Shapes:
    data = step.shape(0)
    if data is None:
        return None
    order = step.attribute("perm") or range(len(data) - 1, -1, -1)
    return [tuple(data[axis] for axis in order)]


def _concat(step: ShapeStep) -> Shapes:
    known = [shape for shape in step.shapes if shape is not None]
    if len(known) != len(step.shapes) or not known:
        return None
    axis = step.attribute("axis", 1) % len(known[0])
    total: Count = sum((shape[axis] for shape in known[1:]), start=known[0][axis])
    sizes = [common_size(dims) for dims in zip(*known, strict=True)]
    return [(*sizes[:axis], total, *sizes[axis + 1 :])]


def _split(step: ShapeStep) -> Shapes:
    data, parts = step.shape(0), step.integers("split", 1)
    if data is None or (step.has(1) and parts is None):
        return None
    axis = step.attribute("axis", 0) % len(data)
    if parts is None:
        count = len(step.node.outputs)
        # All are equal but the last, which may be smaller.
        each = -floor_quotient(-data[axis], count)
        parts = [each] * (count - 1) + [data[axis] - each * (count - 1)]
    return [(*data[:axis], part, *data[axis + 1 :]) for part in parts]


def _slice(step: ShapeStep) -> Shapes:
    data, bounds = step.shape(0), slice_bounds(step)
    if data is None or bounds is None:
        return None
    dims = list(data)
    for axis, start, end, stride in bounds:
        dims[axis] = _slice_length(dims[axis], start, end, stride)
    return [tuple(dims)]


def _slice_length(dim: Count, start: Count, end: Count, stride: Count) -> Count:
    if not isinstance(stride, int):
        raise TypeError("the step of a Slice is not known")
    if isinstance(dim, int) and isinstance(start, int) and isinstance(end, int):
        return len(range(dim)[cut(dim, start, end, stride)])
    if stride < 0:
        raise ValueError("a backward Slice of a symbolic axis")
    length = _clamped(end, dim) - _clamped(start, dim)
    return greatest(-floor_quotient(-length, stride), 0)


def _clamped(position: Count, dim: Count) -> Count:
    """A bound of a Slice as a position in [0, dim]; a negative one counts from the end."""
    if isinstance(position, int) and position < 0:
        position = dim + position
        return position if is_at_most(0, position) else greatest(position, 0)
    # "To the end" is written as the largest integer.
    if isinstance(position, int) and position >= 2**31 - 1:
        return dim
    return least(position, dim)


def _squeeze(step: ShapeStep) -> Shapes:
    data, axes = step.shape(0), step.integers("axes", 1)
    if data is None or (step.has(1) and axes is None):
        return None
    if axes is None:
        if not all(isinstance(dim, int) for dim in data):
            return None
        return [tuple(dim for dim in data if dim != 1)]
    gone = {int(axis) % len(data) for axis in axes}
    return [tuple(dim for axis, dim in enumerate(data) if axis not in gone)]


def _unsqueeze(step: ShapeStep) -> Shapes:
    data, axes = step.shape(0), step.integers("axes", 1)
    if data is None or axes is None:
        return None
    rank = len(data) + len(axes)
    new = {int(axis) % rank for axis in axes}
    if len(new) < len(axes):  # one is there twice
        return None
    rest = iter(data)
    return [tuple(1 if axis in new else next(rest) for axis in range(rank))]


def _expand(step: ShapeStep) -> Shapes:
    data, target = step.shape(0), step.value(1)
    if data is None or target is None:
        return None
    return [broadcast([data, tuple(target.ravel())])]


def _tile(step: ShapeStep) -> Shapes:
    data, repeats = step.shape(0), step.value(1)
    if data is None or repeats is None:
        return None
    return [tuple(dim * times for dim, times in zip(data, repeats.ravel(), strict=True))]


def _pad(step: ShapeStep) -> Shapes:
    data, pads = step.shape(0), step.integers("pads", 1)
    if data is None or pads is None or (step.has(3) and step.value(3) is None):
        return None
    axes = step.integers("axes", 3) or list(range(len(data)))
    dims = list(data)
    for position, axis in enumerate(axes):
        dims[int(axis)] += pads[position] + pads[position + len(axes)]
    return [tuple(dims)]


def _resize(step: ShapeStep) -> Shapes:
    """The sizes that are asked for, or floor(W * scale).

    Source: ONNX operator specification, Resize.
    """
    data = step.shape(0)
    if data is None:
        return None
    upsample = step.node.op_type == "Upsample"
    # Opset 10 knew no region of interest.
    scales = step.integers("scales", 1 if upsample or len(step.node.inputs) == 2 else 2)
    sizes = step.value(3)
    axes = list(step.attribute("axes") or range(len(data)))
    wanted: list[Any] = [None] * len(axes)
    if sizes is not None:
        if step.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
            return None
        wanted = list(sizes.ravel())
    elif scales:
        wanted = [_scaled(data[axis], scale) for axis, scale in zip(axes, scales, strict=True)]
    if len(wanted) != len(axes) or None in wanted:
        return None
    dims = list(data)
    for axis, size in zip(axes, wanted, strict=True):
        dims[axis] = size
    return [tuple(dims)]


def _scaled(size: Count, scale: float | Fraction) -> Count:
    if not isinstance(size, int):
        return floor(size * Fraction(scale))
    # 90 by 1.3 is 116: the runtimes multiply in single precision, in which 1.3 lies below it.
    return floor(_single(_single(float(scale)) * size))


def _single(number: float) -> float:
    """The nearest float32."""
    return float(unpack("f", pack("f", number))[0])


def _depth_to_space(step: ShapeStep) -> Shapes:
    data, block = step.shape(0), step.attribute("blocksize", 1)
    if data is None:
        return None
    return [(data[0], data[1] // (block * block), *(dim * block for dim in data[2:]))]


def _space_to_depth(step: ShapeStep) -> Shapes:
    data, block = step.shape(0), step.attribute("blocksize", 1)
    if data is None:
        return None
    return [(data[0], data[1] * (block * block), *(dim // block for dim in data[2:]))]


def _gather(step: ShapeStep) -> Shapes:
    data, indices = step.shape(0), step.shape(1)
    if data is None or indices is None:
        return None
    axis = step.attribute("axis", 0) % len(data)
    return [(*data[:axis], *indices, *data[axis + 1 :])]


def _gather_elements(step: ShapeStep) -> Shapes:
    return [step.shape(1)]


def _gather_nd(step: ShapeStep) -> Shapes:
    data, indices = step.shape(0), step.shape(1)
    if data is None or not indices or not isinstance(indices[-1], int):
        return None
    return [(*indices[:-1], *data[step.attribute("batch_dims", 0) + indices[-1] :])]


def _shape(step: ShapeStep) -> Shapes:
    data = step.shape(0)
    if data is None:
        return None
    return [(len(data[step.attribute("start", 0) : step.attribute("end")]),)]


def _scalar(_: ShapeStep) -> Shapes:
    return [()]


def _constant_of_shape(step: ShapeStep) -> Shapes:
    target = step.value(0)
    return None if target is None else [tuple(target.ravel())]


def _range(step: ShapeStep) -> Shapes:
    start, limit, delta = (step.value(index) for index in range(3))
    if start is None or limit is None or delta is None:
        return None
    first, last, stride = start.item(), limit.item(), delta.item()
    if isinstance(stride, int) and stride > 0:
        return [(greatest(-floor_quotient(first - last, stride), 0),)]
    if all(isinstance(number, int | Fraction) for number in (first, last, stride)) and stride:
        return [(max(-floor((first - last) / Fraction(stride)), 0),)]
    return None


def _top_k(step: ShapeStep) -> Shapes:
    data, count = step.shape(0), step.integers("k", 1)
    if data is None or count is None:
        return None
    axis = step.attribute("axis", -1) % len(data)
    return [(*data[:axis], count[0], *data[axis + 1 :])] * 2


def _one_hot(step: ShapeStep) -> Shapes:
    indices, depth = step.shape(0), step.value(1)
    if indices is None or depth is None:
        return None
    axis = step.attribute("axis", -1) % (len(indices) + 1)
    return [(*indices[:axis], depth.ravel()[0], *indices[axis:])]


MOVING_SHAPES: Mapping[str, ShapeFunction] = {
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Size": _scalar,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
}
