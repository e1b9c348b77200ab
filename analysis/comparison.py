"""Comparisons: what differs between two networks, layer by layer and in total."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from convlens.analysis.alignment import align, resolved_attributes
from convlens.analysis.layer import Layer
from convlens.analysis.receptive_field import PerAxis
from convlens.analysis.report import Report

SCHEMA = "convlens.comparison/1"

Kind = Literal["same", "consequence", "changed", "removed", "added"]

# What follows from a change further ahead, where nothing about the layer itself has changed.
_CONSEQUENCES = frozenset({"receptive_field", "output", "macs"})


@dataclass(frozen=True)
class Difference:
    """Two layers that correspond to each other, or one that has no counterpart.

    Attributes:
        first: the layer of the first network; None where it was added.
        second: the layer of the second network; None where it was removed.
    """

    first: Layer | None
    second: Layer | None

    @cached_property
    def changes(self) -> Mapping[str, tuple[Any, Any]]:
        """What differs between the two, as (before, after); names are not compared."""
        if self.first is None or self.second is None:
            return {}
        before, after = _facts(self.first), _facts(self.second)
        return {
            key: (before.get(key), after.get(key))
            for key in (*before, *(key for key in after if key not in before))
            if before.get(key) != after.get(key)
        }

    @property
    def kind(self) -> Kind:
        """What has become of the layer; a consequence is a change that was made elsewhere."""
        if self.first is None:
            return "added"
        if self.second is None:
            return "removed"
        if not self.changes:
            return "same"
        return "consequence" if self.changes.keys() <= _CONSEQUENCES else "changed"

    @property
    def is_idle(self) -> bool:
        """Whether it is a layer without counterpart that only passes on what it gets."""
        if self.first is not None and self.second is not None:
            return False
        layer = self.first or self.second
        return layer is not None and _is_idle(layer)

    def to_json(self) -> dict[str, Any]:
        """The difference as plain values."""
        return {
            "kind": self.kind,
            "first": self.first and self.first.name,
            "second": self.second and self.second.name,
            "changes": {key: list(values) for key, values in self.changes.items()},
        }


@dataclass(frozen=True)
class Comparison:
    """What differs between two networks.

    Attributes:
        first: the report of the one.
        second: the report of the other.
        differences: every layer of both once, in the order of execution.
    """

    first: Report
    second: Report
    differences: tuple[Difference, ...]

    @property
    def totals(self) -> Mapping[str, tuple[Any, Any]]:
        """The sums of both, and the size of the last receptive field that is local."""
        first, second = self.first.totals.to_json(), self.second.totals.to_json()
        totals: dict[str, tuple[Any, Any]] = {key: (first[key], second[key]) for key in first}
        totals["receptive_field"] = (
            _axes_json(last_local_size(self.first)),
            _axes_json(last_local_size(self.second)),
        )
        return totals

    @property
    def counts(self) -> Mapping[Kind, int]:
        """How many differences there are of each kind."""
        return Counter(difference.kind for difference in self.differences)

    def to_json(self) -> dict[str, Any]:
        """The comparison by the schema "convlens.comparison/1", ready for `json.dumps`."""
        return {
            "schema": SCHEMA,
            "first": self.first.model.path,
            "second": self.second.model.path,
            "layers": [difference.to_json() for difference in self.differences],
            "totals": {key: list(values) for key, values in self.totals.items()},
        }


def compare(first: Report, second: Report) -> Comparison:
    """Compare two networks: their layers are aligned by structure, whatever they are called.

    Raises:
        ComparisonError: the networks are too large.
    """
    pairs = align(first.layers, second.layers)
    return Comparison(first, second, tuple(Difference(*pair) for pair in pairs))


def last_local_size(report: Report) -> PerAxis:
    """The receptive field's size at the last layer that has one."""
    sizes = (layer.receptive_field.size for layer in reversed(report.layers))
    return next((size for size in sizes if size is not None), None)


def _is_idle(layer: Layer) -> bool:
    """Whether its output is its input, as exporters leave some behind."""
    if layer.op_type == "Cast":
        dtypes = [tensor.dtype for tensor in (*layer.inputs[:1], *layer.outputs)]
        return len(dtypes) == 2 and dtypes[0] == dtypes[1] != ""
    # A Dropout's third input may switch training on.
    is_in_training = any(tensor.name for tensor in layer.inputs[2:])
    return layer.op_type == "Identity" or (layer.op_type == "Dropout" and not is_in_training)


def _facts(layer: Layer) -> dict[str, Any]:
    json = layer.to_json()
    sees = json["receptive_field"]
    return {
        **resolved_attributes(layer),
        "weight": next((list(t.shape or ()) for t in layer.inputs[1:2]), None)
        if layer.parameters.stored
        else None,
        "output": json["outputs"][0]["shape"] if json["outputs"] else None,
        "parameters": layer.parameters.learnable + layer.parameters.statistics,
        "macs": layer.macs,
        "receptive_field": {key: sees[key] for key in ("size", "stride", "start")},
    }


def _axes_json(values: PerAxis) -> list[Any] | None:
    return None if values is None else [v if isinstance(v, int) else str(v) for v in values]
