"""Measurement: which pixels reach a unit, found by lighting one row of pixels after the other."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from convlens.analysis.digits import Digit, axis_length
from convlens.analysis.field import Field
from convlens.analysis.graph import Graph
from convlens.analysis.perturbation import lit_copy
from convlens.analysis.shape import Tensors

if TYPE_CHECKING:
    from onnx import ModelProto

Array = np.ndarray[Any, np.dtype[Any]]

# Each run in flight holds its activations.
_MAX_RUNS_AT_ONCE = 4


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
    places = zip(walking_axes(field), unit.index, strict=True)
    return sum(_position(field.axes[axis], index, image_axis) for axis, index in places)


def _position(digits: Sequence[Digit], index: int, image_axis: int) -> int:
    position = 0
    for digit in reversed(digits):
        index, value = divmod(index, int(digit.length))
        if digit.grid:
            # What stands beside the grid sees nothing, wherever it is thought to be.
            inside = min(max(value - digit.before, 0), int(axis_length(digit.grid)) - 1)
            position += _position(digit.grid, inside, image_axis)
        elif digit.image_axis == image_axis:
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
    by_tensor = {name: [unit for unit in units if unit.tensor == name] for name in names}
    places = [(name, _places(by_tensor[name], fields[name])) for name in names]
    copy = lit_copy(proto, graph, tensors, fields, opset, image_axis, places)
    outputs = [value.name for value in copy.graph.output]
    session = open_session(copy.SerializeToString())
    pictures = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in copy.graph.input
    }
    axes = {name: _walking_axis(fields[name], image_axis) for name in pictures}

    def lit_by(row: int) -> list[Array]:
        """Which units of each tensor the row of pixels lights."""
        feeds = {name: _lit_row(shape, axes[name], row) for name, shape in pictures.items()}
        return [
            _are_lit(values, by_tensor[name], fields[name])
            for name, values in zip(names, session.run(outputs, feeds), strict=True)
        ]

    length = max(shape[axes[name]] for name, shape in pictures.items())
    if length == 0:
        return {unit: Sighting(None, None) for unit in units}
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MAX_RUNS_AT_ONCE)) as pool:
        by_row = list(pool.map(lit_by, range(length)))
    sightings: dict[Unit, Sighting] = {}
    for name, rows in zip(names, zip(*by_row, strict=True), strict=True):
        for unit, column in zip(by_tensor[name], np.array(rows).T, strict=True):
            seen = np.flatnonzero(column)
            sightings[unit] = Sighting(*(map(int, seen[[0, -1]]) if len(seen) else (None, None)))
    return sightings


def _walking_axis(picture: Field, image_axis: int) -> int:
    axes = range(len(picture.axes))
    return next(axis for axis in axes if image_axis in picture.image_axes(axis))


def _lit_row(shape: tuple[int, ...], axis: int, row: int) -> Array:
    picture = np.zeros(shape, np.float32)
    if row < shape[axis]:
        np.moveaxis(picture, axis, 0)[row] = 1
    return picture


def _places(units: Sequence[Unit], field: Field) -> dict[int, list[int]]:
    """The positions on each axis that walks along the image where there is a unit."""
    axes = walking_axes(field)
    return {axis: sorted({unit.index[at] for unit in units}) for at, axis in enumerate(axes)}


def _are_lit(values: Array, units: Sequence[Unit], field: Field) -> Array:
    """Whether any channel of each unit is lit.

    Args:
        values: of the tensor at the units' places alone.
        units: of the tensor.
        field: of the tensor.
    """
    axes, places = walking_axes(field), _places(units, field)
    indices = tuple(
        [places[axis].index(unit.index[at]) for unit in units] for at, axis in enumerate(axes)
    )
    at_units = np.moveaxis(values, axes, range(len(axes)))[indices]
    return np.asarray(at_units.reshape(len(units), -1).any(axis=1))
