"""Layers: everything that is known of one operator, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from convlens.analysis.certainty import Certainty, Status
from convlens.analysis.graph import Graph, StoredTensor
from convlens.analysis.number import Number
from convlens.analysis.parameters import Parameters
from convlens.analysis.receptive_field import PerAxis, ReceptiveField
from convlens.analysis.shape import Shape, Tensor

# What JSON has a word for.
_PLAIN = (int, float, str, type(None))


@dataclass(frozen=True)
class Formulas:
    """Numbers as formulas in the symbolic dimensions; None where not known.

    Attributes:
        macs: as "9408*N*...".
        flops: all arithmetic.
        activation_bytes: of a layer's outputs; of the whole model, what is alive at the step where
            the peak lies at the file's own size, or at 224x224 where it has none.
    """

    macs: str | None
    flops: str | None
    activation_bytes: str | None

    def to_json(self) -> dict[str, str | None]:
        """The formulas by name."""
        return dict(vars(self))


@dataclass(frozen=True)
class Layer:
    """One operator of the graph.

    Attributes:
        index: its position in the order of execution.
        name: that of the file, or its first output's.
        op_type: as "Conv".
        scope: the PyTorch module that it came from; None where the file does not say.
        inputs: what it reads, weights included.
        outputs: what it makes.
        attributes: of the operator, as the file states them.
        parameters: a shared weight is counted at its first user.
        macs: multiply-accumulates without biases; a symbolic dimension counts as 1, as everywhere;
            None where not known.
        flops: all arithmetic; None where not known.
        activation_bytes: of its outputs; None where not known.
        receptive_field: of its first output.
        certainty: whether all that is exact, and if not, why.
        formulas: its numbers where dimensions are asked to be symbolic; else None.
    """

    index: int
    name: str
    op_type: str
    scope: str | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    attributes: Mapping[str, Any]
    parameters: Parameters
    macs: int | None
    flops: int | None
    activation_bytes: int | None
    receptive_field: ReceptiveField
    certainty: Certainty
    formulas: Formulas | None = None

    def input_shape(self, index: int = 0) -> Shape | None:
        """The shape of an input; None where that is left out or its rank is not known."""
        return self.inputs[index].shape if index < len(self.inputs) else None

    @property
    def output_shape(self) -> Shape | None:
        """The shape of the first output; None where there is none or its rank is not known."""
        return self.outputs[0].shape if self.outputs else None

    @property
    def status(self) -> Status:
        """Whether all that is exact."""
        return self.certainty.status

    @property
    def weight_bytes(self) -> int:
        """The stored size of its parameters."""
        return self.parameters.stored_bytes

    @property
    def arithmetic_intensity(self) -> float | None:
        """FLOPs for each byte that is read or written, weights included; None where not known.

        Source: Williams, Waterman, Patterson, "Roofline", 2009: below the machine's own ratio of
            peak arithmetic to bandwidth, memory limits the layer.
        """
        moved = [tensor.bytes for tensor in (*self.inputs, *self.outputs) if tensor.name]
        if self.flops is None or None in moved or not any(moved):
            return None
        return round(self.flops / sum(filter(None, moved)), 3)

    def to_json(self) -> dict[str, Any]:
        """The layer as the schema has it, with its formulas where there are such."""
        layer = {
            "index": self.index,
            "name": self.name,
            "op_type": self.op_type,
            "scope": self.scope,
            "inputs": [{"name": t.name, "shape": _shape_json(t)} for t in self.inputs],
            "outputs": [tensor_json(tensor) for tensor in self.outputs],
            "attributes": {name: _value_json(value) for name, value in self.attributes.items()},
            "parameters": {
                "learnable": self.parameters.learnable,
                "statistics": self.parameters.statistics,
            },
            "macs": self.macs,
            "flops": self.flops,
            "weight_bytes": self.weight_bytes,
            "activation_bytes": self.activation_bytes,
            "arithmetic_intensity": self.arithmetic_intensity,
            "receptive_field": _receptive_field_json(self.receptive_field),
            "status": self.status,
            "reason": self.certainty.reason,
        }
        return layer if self.formulas is None else layer | {"formulas": self.formulas.to_json()}


def _shape_json(tensor: Tensor) -> list[int | str] | None:
    return None if tensor.shape is None else list(tensor.shape)


def tensor_json(tensor: Tensor) -> dict[str, Any]:
    """A tensor as the schema has it."""
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": _shape_json(tensor)}


def _receptive_field_json(receptive_field: ReceptiveField) -> dict[str, Any]:
    return {
        "size": _per_axis_json(receptive_field.size),
        "stride": _per_axis_json(receptive_field.stride),
        "start": _per_axis_json(receptive_field.start),
        "global_since": receptive_field.global_since,
        "aligned": receptive_field.aligned,
    }


def _per_axis_json(values: PerAxis) -> list[int | str | None] | None:
    return None if values is None else [_number_json(value) for value in values]


def _number_json(number: Number | None) -> int | str | None:
    if isinstance(number, Fraction):
        return int(number) if number.denominator == 1 else str(number)
    return number


def _value_json(value: Any) -> Any:
    """An attribute's value; a tensor or graph is described, as its values may be many."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, tuple):
        return [entry if isinstance(entry, _PLAIN) else _value_json(entry) for entry in value]
    if isinstance(value, StoredTensor):
        return {"dtype": value.dtype, "shape": list(value.shape)}
    if isinstance(value, Graph):
        return {"nodes": len(value.nodes)}
    return str(value)
