"""Certainty: whether a layer's numbers are exact, and if not, why."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from convlens.analysis.cost import Cost
from convlens.analysis.graph import Graph, Node
from convlens.analysis.receptive_field import ReceptiveField
from convlens.analysis.shape import Tensor
from convlens.analysis.shapes import InferredShapes
from convlens.analysis.transfers import TRANSFERS

Status = Literal["exact", "partial", "unknown"]


@dataclass(frozen=True)
class Certainty:
    """How far a layer's numbers can be trusted.

    Attributes:
        status: exact; partial where a number is missing, disputed, or rests on a path that is not
            understood; unknown where the operator is not.
        reason: why it is not exact; None where it is.
    """

    status: Status
    reason: str | None = None


def missing_since(graph: Graph, seen: Mapping[str, ReceptiveField]) -> dict[str, str]:
    """The node from which on a tensor's receptive field is incomplete, by the tensor's name."""
    since: dict[str, str] = {}
    for node in graph.nodes:
        if not seen.get(node.output, ReceptiveField()).complete:
            first = next((since[name] for name in node.reads if name in since), node.name)
            since.update(dict.fromkeys(node.outputs, first))
    return since


def certainty(
    node: Node,
    shapes: InferredShapes,
    cost: Cost,
    *,
    sees_since: str | None,
    on_pixels: bool,
) -> Certainty:
    """Tell how far a layer's numbers can be trusted.

    Args:
        node: the operator.
        shapes: of all tensors.
        cost: of the operator.
        sees_since: the node from which on its receptive field is incomplete; None where it is not.
        on_pixels: whether pixels reach it.
    """
    reasons = list(_reasons(node, shapes, cost, sees_since))
    # What an operator does to pixels matters where there are some.
    if node.op_type not in TRANSFERS and not node.bodies and (on_pixels or reasons):
        return Certainty("unknown", f"the operator {node.op_type} is not understood")
    return Certainty("partial", "; ".join(reasons)) if reasons else Certainty("exact")


def _reasons(
    node: Node, shapes: InferredShapes, cost: Cost, sees_since: str | None
) -> Iterator[str]:
    dispute = shapes.disputes.get(node.index)
    if dispute is not None:
        yield dispute
    for name in filter(None, node.outputs):
        tensor = shapes.tensors.get(name, Tensor(name, "", None))
        if tensor.bytes is None:
            yield f"the {'shape' if tensor.shape is None else 'dtype'} of {name} is not known"
    if cost.macs is None or cost.flops is None:
        yield "its arithmetic is not known"
    elif not cost.exact:
        yield "part of its arithmetic is not known"
    if sees_since == node.name:
        yield "what it sees of the picture could not be worked out"
    elif sees_since is not None:
        yield f"it lies behind {sees_since}, and what that sees is not known"
