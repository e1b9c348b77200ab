"""What a shape function and the folding of shape arithmetic are given: one operator's inputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from convlens.analysis.graph import Node
from convlens.analysis.symbolic import Count
from convlens.analysis.values import MAX_ENTRIES, Values

Counts = tuple[Count, ...]

# The shapes of an operator's outputs; None for one that is not known, and where none is.
Shapes = Sequence[Counts | None] | None


@dataclass(frozen=True)
class ShapeStep:
    """One operator, and what is known of its inputs.

    Attributes:
        node: the operator.
        shapes: of each input; None where not known or left out.
        dtypes: of each input; empty where not known or left out.
        look_up: gives the values of a tensor; None where they are not known.
    """

    node: Node
    shapes: tuple[Counts | None, ...]
    dtypes: tuple[str, ...]
    look_up: Callable[[str], Values | None]

    def shape(self, index: int) -> Counts | None:
        """The shape of an input."""
        return self.shapes[index] if index < len(self.shapes) else None

    def value(self, index: int, *, long: bool = False) -> Values | None:
        """The values of an input; None where it is left out or they are not known.

        Args:
            index: of the input.
            long: whether a run of any length is wanted, which must not be walked through.
        """
        name = self.node.input(index)
        found = self.look_up(name) if name else None
        return found if found is None or long or found.size <= MAX_ENTRIES else None

    @property
    def all_values(self) -> list[Values] | None:
        """The values of all inputs; None where those of one are not known."""
        values: list[Values] = []
        for index in range(len(self.node.inputs)):
            found = self.value(index)
            if found is None:
                return None
            values.append(found)
        return values or None

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the operator."""
        return self.node.attributes.get(name, default)

    def integers(self, name: str, index: int) -> list[Any] | None:
        """A list that is an attribute of the older operator sets and an input of the newer."""
        values = self.value(index)
        if values is not None:
            return list(values.ravel())
        listed = self.attribute(name)
        return None if listed is None else list(listed)

    def has(self, index: int) -> bool:
        """Whether an optional input is there."""
        return bool(self.node.input(index))


ShapeFunction = Callable[[ShapeStep], Shapes]


def broadcast(shapes: Sequence[Counts]) -> Counts:
    """The shape of numpy's broadcasting; where it hangs on a symbol, sizes are taken to agree.

    Source: ONNX, "Broadcasting in ONNX", multidirectional.
    """
    if shapes.count(shapes[0]) == len(shapes):
        return shapes[0]
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple([common_size(dims) for dims in zip(*padded, strict=True)])


def common_size(dims: Sequence[Count]) -> Count:
    """The size that broadcasting gives to axes of these sizes."""
    wide = [dim for dim in dims if dim != 1]
    return next((dim for dim in wide if isinstance(dim, int)), wide[0] if wide else 1)


def slice_bounds(step: ShapeStep) -> list[tuple[int, Any, Any, Any]] | None:
    """A Slice's (axis, start, end, step) for each axis that it names."""
    shape = step.shape(0)
    starts, ends = step.integers("starts", 1), step.integers("ends", 2)
    if starts is None or ends is None or shape is None:
        return None
    if (step.has(3) and step.value(3) is None) or (step.has(4) and step.value(4) is None):
        return None
    axes = step.integers("axes", 3) or list(range(len(starts)))
    steps = step.integers("steps", 4) or [1] * len(starts)
    axes = [int(axis) % len(shape) for axis in axes]
    return list(zip(axes, starts, ends, steps, strict=True))


def cut(length: int, start: int, end: int, step: int) -> slice:
    """What a Slice takes of an axis, as Python writes it.

    Python counts an end before the first entry from the end again, and takes nothing backwards from
    a start before the first entry, where ONNX takes that entry.
    """
    if step > 0:
        return slice(start, end, step)
    return slice(max(start, -length), None if end < -length else end, step)
