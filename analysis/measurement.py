"""Measurement: which pixels reach a unit, found by lighting one row of pixels after the other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from convlens.analysis.field import Field, axis_length
from convlens.analysis.graph import Graph
from convlens.analysis.image_layout import spatial_axes
from convlens.analysis.perturbation import lit_copy
from convlens.analysis.shape import Tensors

if TYPE_CHECKING:
    from onnx import ModelProto

Array = np.ndarray[Any, np.dtype[Any]]


class Session(Protocol):
    """What onnxruntime's InferenceSession does for us."""

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> Sequence[Any]:
        """Compute the outputs of that name."""


# Opens a serialised model; the runtime is the caller's, this package knows none.
OpenSession = Callable[[bytes], Session]


@dataclass(frozen=True)
class Unit:
    """One position of a tensor, whichever channel.

    Attributes:
        tensor: its name.
        index: its place on those axes of the tensor that walk along the image.
    """

    tensor: str
    index: tuple[int, ...]


def units_of(name: str, field: Field, count: int, random: np.random.Generator) -> list[Unit]:
    """Choose units of a tensor: its corners and centre, then random ones.

    Args:
        name: of the tensor.
        field: of the tensor; its axes' lengths are known.
        count: how many at most; all where there are no more.
        random: draws the others.
    """
    sizes = [int(axis_length(field.axes[axis])) for axis in walking_axes(field)]
    total = int(np.prod(sizes))
    if total <= count:
        return [Unit(name, tuple(map(int, index))) for index in np.ndindex(*sizes)]
    corners = [tuple(0 for _ in sizes), tuple(size - 1 for size in sizes)]
    chosen = [tuple(size // 2 for size in sizes), *corners]
    chosen += [tuple(int(random.integers(size)) for size in sizes) for _ in range(count - 3)]
    return [Unit(name, index) for index in dict.fromkeys(chosen[:count])]


def walking_axes(field: Field) -> list[int]:
    """The axes of the tensor that walk along the image."""
    return [axis for axis in range(len(field.axes)) if field.image_axes(axis)]


def position_of(unit: Unit, field: Field, image_axis: int) -> int:
    """The unit's position along an image axis."""
    position = 0
    for axis, index in zip(walking_axes(field), unit.index, strict=True):
        for digit in reversed(field.axes[axis]):
            index, value = divmod(index, int(digit.length))
            if digit.image_axis == image_axis:
                position += value * digit.step
    return position


@dataclass(frozen=True)
class Sighting:
    """What lit one unit along one image axis.

    Attributes:
        first: the first pixel that did; None where none did.
        last: the last one.
    """

    first: int | None
    last: int | None


def measure(
    proto: "ModelProto",
    graph: Graph,
    tensors: Tensors,
    fields: Mapping[str, Field],
    opset: int,
    image_axis: int,
    units: Sequence[Unit],
    open_session: OpenSession,
) -> dict[Unit, Sighting]:
    """Light one row of pixels after the other and see which units each of them reaches.

    Args:
        proto: the model; its weights may be missing.
        graph: the same model's graph.
        tensors: their shapes, without symbolic dimensions.
        fields: of the tensors.
        opset: the version of ONNX's own operators.
        image_axis: a row is one position along it.
        units: that are looked at.
        open_session: of the runtime.

    Raises:
        SymbolicShapeError: a shape is not known.
    """
    names = list(dict.fromkeys(unit.tensor for unit in units))
    copy = lit_copy(proto, graph, tensors, fields, opset, image_axis, names)
    session = open_session(copy.SerializeToString())
    seen: dict[Unit, list[int]] = {unit: [] for unit in units}
    pictures = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in copy.graph.input
    }
    axes = {
        name: spatial_axes(name, len(shape), graph)[image_axis] for name, shape in pictures.items()
    }
    for row in range(max(shape[axes[name]] for name, shape in pictures.items())):
        feeds = {name: _lit_row(shape, axes[name], row) for name, shape in pictures.items()}
        outputs = dict(zip(names, session.run(names, feeds), strict=True))
        for unit in units:
            if _is_lit(outputs[unit.tensor], unit, fields[unit.tensor]):
                seen[unit].append(row)
    return {
        unit: Sighting(rows[0], rows[-1]) if rows else Sighting(None, None)
        for unit, rows in seen.items()
    }


def _lit_row(shape: tuple[int, ...], axis: int, row: int) -> Array:
    picture = np.zeros(shape, np.float32)
    if row < shape[axis]:
        np.moveaxis(picture, axis, 0)[row] = 1
    return picture


def _is_lit(values: Array, unit: Unit, field: Field) -> bool:
    place: list[slice | int] = [slice(None)] * values.ndim
    for axis, index in zip(walking_axes(field), unit.index, strict=True):
        place[axis] = index
    return bool(values[tuple(place)].any())
