"""Small arrays of numbers and formulas, and how they are read out of a stored tensor.

The words are numpy's, whose import takes longer than an analysis; and its arrays of objects, which
formulas need, are no faster.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from math import prod
from typing import Any

from convlens.analysis.onnx_parts import TensorProto


@dataclass(frozen=True)
class Values:
    """An array of any numbers.

    Attributes:
        entries: the last axis runs fastest; a long run of integers is kept as a range.
        shape: as many entries as it says are there.
    """

    entries: Sequence[Any]
    shape: tuple[int, ...]

    @staticmethod
    def of(entries: Iterable[Any], shape: Sequence[int] | None = None) -> "Values":
        """The entries in that shape, or as a list.

        Raises:
            ValueError: they are not as many as the shape has places.
        """
        row = tuple(entries)
        return Values(row, (len(row),)) if shape is None else Values(row, ()).reshape(shape)

    @property
    def size(self) -> int:
        """How many entries there are."""
        return len(self.entries)

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    def ravel(self) -> Sequence[Any]:
        """The entries in a row."""
        return self.entries

    def item(self) -> Any:
        """The only entry.

        Raises:
            ValueError: there are more, or none.
        """
        (entry,) = self.entries
        return entry

    def map(self, function: Callable[[Any], Any]) -> "Values":
        """The same shape with each entry replaced."""
        return Values(tuple(map(function, self.entries)), self.shape)

    def reshape(self, shape: Sequence[int]) -> "Values":
        """The entries in another shape, of which one length may be negative: what is left.

        Raises:
            ValueError: they do not fill it.
        """
        dims = list(shape)
        open_axes = [axis for axis, dim in enumerate(dims) if dim < 0]
        if open_axes:
            (axis,) = open_axes
            dims[axis] = 1
            if not prod(dims):
                raise ValueError("a shape without entries has any length")
            dims[axis] = self.size // prod(dims)
        if prod(dims) != self.size:
            raise ValueError(f"{self.size} entries do not fill {dims}")
        return Values(self.entries, tuple(dims))

    def transpose(self, order: Sequence[int] | None = None) -> "Values":
        """The axes in another order; None reverses them.

        Raises:
            ValueError: it is no order of all axes.
        """
        axes = range(self.ndim)[::-1] if order is None else [_axis(a, self.ndim) for a in order]
        if sorted(axes) != list(range(self.ndim)):
            raise ValueError(f"{order} is no order of {self.ndim} axes")
        strides = self._strides
        return self._picked(0, [self.shape[a] for a in axes], [strides[a] for a in axes])

    def slice(self, bounds: Sequence[slice]) -> "Values":
        """A stretch of each axis.

        Raises:
            ValueError: a step is 0.
        """
        if isinstance(self.entries, range) and self.ndim == 1:
            run = self.entries[bounds[0]]
            return Values(run, (len(run),))
        ranges = [range(length)[cut] for length, cut in zip(self.shape, bounds, strict=True)]
        steps = list(zip(ranges, self._strides, strict=True))
        return self._picked(
            sum(taken.start * stride for taken, stride in steps),
            [len(taken) for taken in ranges],
            [taken.step * stride for taken, stride in steps],
        )

    def broadcast_to(self, shape: Sequence[int]) -> "Values":
        """The entries repeated along axes of length 1, or in front."""
        missing = len(shape) - self.ndim
        strides = [
            stride if length != 1 else 0
            for length, stride in zip(self.shape, self._strides, strict=True)
        ]
        return self._picked(0, shape, [*([0] * missing), *strides])

    def take(self, indices: "Values", axis: int) -> "Values":
        """The entries at these places of one axis.

        Raises:
            IndexError: there is no such place.
            ValueError: there is no such axis.
        """
        axis = _axis(axis, self.ndim)
        length, inner = self.shape[axis], prod(self.shape[axis + 1 :])
        places = [range(length)[int(index)] for index in indices.entries]
        taken = (
            self.entries[start : start + inner]
            for outer in range(prod(self.shape[:axis]))
            for start in ((outer * length + place) * inner for place in places)
        )
        shape = (*self.shape[:axis], *indices.shape, *self.shape[axis + 1 :])
        return Values(tuple(chain.from_iterable(taken)), shape)

    def squeeze(self, axes: Sequence[int] | None = None) -> "Values":
        """Without these axes of length 1; None means all of them.

        Raises:
            ValueError: one of them is longer.
        """
        if axes is None:
            return self.reshape([length for length in self.shape if length != 1])
        dropped = {_axis(axis, self.ndim) for axis in axes}
        if any(self.shape[axis] != 1 for axis in dropped):
            raise ValueError(f"an axis of {self.shape} to be dropped is longer than 1")
        return self.reshape([n for axis, n in enumerate(self.shape) if axis not in dropped])

    def expand_dims(self, axes: Sequence[int]) -> "Values":
        """With new axes of length 1 at these places of the result.

        Raises:
            ValueError: a place is named twice, or lies outside.
        """
        rank = self.ndim + len(axes)
        added = {_axis(axis, rank) for axis in axes}
        if len(added) < len(axes):
            raise ValueError(f"a new axis is named twice: {axes}")
        lengths = iter(self.shape)
        return self.reshape([1 if axis in added else next(lengths) for axis in range(rank)])

    @property
    def _strides(self) -> list[int]:
        """How many entries lie between two neighbours on each axis."""
        return [prod(self.shape[axis + 1 :]) for axis in range(self.ndim)]

    def _picked(self, start: int, shape: Sequence[int], strides: Sequence[int]) -> "Values":
        places = [start]
        for length, stride in zip(shape, strides, strict=True):
            places = [place + index * stride for place in places for index in range(length)]
        return Values(tuple(self.entries[place] for place in places), tuple(shape))


def concatenate(parts: Sequence[Values], axis: int) -> Values:
    """The parts one behind the other along an axis.

    Raises:
        ValueError: they do not fit, or have no such axis.
    """
    first = parts[0]
    axis = _axis(axis, first.ndim)
    around = {(*part.shape[:axis], 0, *part.shape[axis + 1 :]) for part in parts}
    if len(around) > 1 or any(part.ndim != first.ndim for part in parts):
        raise ValueError(f"parts of different shapes: {around}")
    widths = [prod(part.shape[axis:]) for part in parts]
    pieces = (
        part.entries[outer * width : (outer + 1) * width]
        for outer in range(prod(first.shape[:axis]))
        for part, width in zip(parts, widths, strict=True)
    )
    length = sum(part.shape[axis] for part in parts)
    shape = (*first.shape[:axis], length, *first.shape[axis + 1 :])
    return Values(tuple(chain.from_iterable(pieces)), shape)


def broadcast_shape(shapes: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """The shape of numpy's broadcasting.

    Raises:
        ValueError: two lengths differ, and neither is 1.
    """
    dims = []
    for lengths in zip_longest(*(shape[::-1] for shape in shapes), fillvalue=1):
        wide = {length for length in lengths if length != 1}
        if len(wide) > 1:
            raise ValueError(f"lengths that do not broadcast: {sorted(wide)}")
        dims.append(wide.pop() if wide else 1)
    return tuple(dims[::-1])


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"there is no axis {axis} of {rank}")
    return axis % rank


# A tensor with more entries is no shape, nor the scales of one.
MAX_ENTRIES = 1024

# The types of which shapes, sizes and scales are, as `struct` packs them, and the field of a
# TensorProto that holds them where raw_data does not.
_FORMATS: Mapping[int, tuple[str, str]] = {
    TensorProto.BOOL: ("?", "int32_data"),
    TensorProto.DOUBLE: ("d", "double_data"),
    TensorProto.FLOAT: ("f", "float_data"),
    TensorProto.FLOAT16: ("e", ""),
    TensorProto.INT16: ("h", "int32_data"),
    TensorProto.INT32: ("i", "int32_data"),
    TensorProto.INT64: ("q", "int64_data"),
    TensorProto.INT8: ("b", "int32_data"),
    TensorProto.UINT16: ("H", "int32_data"),
    TensorProto.UINT32: ("I", "uint64_data"),
    TensorProto.UINT64: ("Q", "uint64_data"),
    TensorProto.UINT8: ("B", "int32_data"),
}


def read_values(tensor: TensorProto) -> Values | None:
    """The values of a stored tensor; None where they are not there or do not fill its shape."""
    if tensor.data_type not in _FORMATS or tensor.data_location == TensorProto.EXTERNAL:
        return None
    code, field = _FORMATS[tensor.data_type]
    count = prod(tensor.dims)
    try:
        if tensor.HasField("raw_data"):
            entries = struct.unpack(f"<{max(count, 0)}{code}", tensor.raw_data)
        else:
            entries = tuple(getattr(tensor, field, ()))
        if code == "?":
            entries = tuple(map(bool, entries))
        return Values.of(entries, tensor.dims)
    except (struct.error, ValueError):
        return None
