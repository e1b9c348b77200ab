"""Steps: one operator on the image's way through the graph."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from convlens.analysis.branches import joined
from convlens.analysis.field import Field, unknown_field
from convlens.analysis.graph import Node, StoredTensor
from convlens.analysis.shape import Dim, Shape, Tensors, shape_of
from convlens.analysis.symbolic import Count, Expression
from convlens.analysis.values import Values

# Microsoft's quantised operators take a scale and a zero point with each tensor.
_MICROSOFT = "com.microsoft::"


@dataclass(frozen=True)
class Step:
    """One operator on its way through the graph, for one of its outputs.

    Attributes:
        node: the operator.
        fields: of each input; None where no pixel reaches it.
        tensors: what is known of each tensor of the graph, by name.
        stored: the tensors that the file holds, by name.
        folded: the values of the tensors that follow from shapes alone, by name.
        output: the shape of the output that is asked for, where known.
        output_index: its place among the outputs.
        opset: the version of ONNX's own operators.
    """

    node: Node
    fields: tuple[Field | None, ...]
    tensors: Tensors
    stored: Mapping[str, StoredTensor]
    folded: Mapping[str, Values | None]
    output: Shape | None
    output_index: int = 0
    opset: int = 0

    @property
    def shapes(self) -> tuple[Shape | None, ...]:
        """The shape of each input, where known."""
        return tuple([shape_of(name, self.tensors) for name in self.node.inputs])

    @property
    def known_fields(self) -> list[Field]:
        """The fields of the inputs that pixels reach; at least one."""
        return [field for field in self.fields if field is not None]

    @property
    def op_type(self) -> str:
        """The operator; Microsoft's are called as ONNX's, of which they are variants."""
        return self.node.op_type.removeprefix(_MICROSOFT)

    def field(self, index: int) -> Field | None:
        """The field of one input; None where it is left out or no pixel reaches it."""
        return self.fields[index] if index < len(self.fields) else None

    def shape(self, index: int) -> Shape | None:
        """The shape of one input, where it is there and known."""
        return shape_of(self.node.input(index), self.tensors)

    def joined(self) -> Field:
        """The field of the inputs combined position by position."""
        return joined(self.known_fields, self.node.index)

    def length(self, axis: int, rank: int) -> Dim:
        """The length of an axis of the output, "?" where it is not known."""
        known = self.output is not None and len(self.output) == rank
        return self.output[axis] if self.output is not None and known else "?"

    def counts(self, index: int, attribute: str = "") -> list[Count | float] | None:
        """The values of an input that are known, or else of the attribute of that name.

        Returns:
            None where neither is there, or the values are computed from pixels or too many to be
            read; formulas where they follow from a size that is symbolic.
        """
        name = self.node.input(index)
        if name:
            stored = self.stored.get(name)
            values = self.folded.get(name) if stored is None else stored.values
            return None if values is None or _is_run(values) else list(values.ravel())
        found = self.node.attributes.get(attribute)
        return list(found) if isinstance(found, tuple) else None

    def run(self, index: int) -> range | None:
        """The values of an input that follow each other; None where they do not or are not known.

        They may be any number, and are not to be walked through.
        """
        values = self.folded.get(self.node.input(index))
        if values is not None and isinstance(values.entries, range):
            return values.entries if values.entries.step == 1 else None
        listed = self.integers(index)
        if not listed:
            return None
        run = range(listed[0], listed[0] + len(listed))
        return run if listed == list(run) else None

    def numbers(self, index: int, attribute: str = "") -> list[float] | None:
        """As `counts`, where none of them is a formula."""
        counts = self.counts(index, attribute)
        numbers = [count for count in counts or () if not isinstance(count, Expression)]
        return None if counts is None or len(numbers) < len(counts) else numbers

    def integers(self, index: int, attribute: str = "") -> list[int] | None:
        """As `numbers`, where they count something."""
        numbers = self.numbers(index, attribute)
        return None if numbers is None else [int(number) for number in numbers]

    def axis(self, default: int, rank: int) -> int:
        """The attribute `axis`, counted from the front."""
        axis = self.node.attributes.get("axis", default)
        return axis % rank if isinstance(axis, int) else default % rank

    def unknown(self) -> Field:
        """The field where the operator's effect on local paths is not understood."""
        return unknown_field(self.known_fields, self.output)


Transfer = Callable[[Step], Field | None]


def _is_run(values: Values) -> bool:
    return isinstance(values.entries, range)


def counted(axes: Sequence[int], rank: int) -> list[int] | None:
    """The axes counted from the front; None where one of them does not exist."""
    if any(not -rank <= axis < rank for axis in axes):
        return None
    return [axis % rank for axis in axes]
