"""Memory: the activations that are alive at the same time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from convlens.analysis.bounds import evaluate
from convlens.analysis.dimensions import to_count
from convlens.analysis.graph import Graph
from convlens.analysis.operators import RESHAPES
from convlens.analysis.shape import Tensor, Tensors, storage_formula
from convlens.analysis.shape_bodies import Body
from convlens.analysis.symbolic import Count, product

# Their output is their input's memory under another shape.
_VIEWS = RESHAPES | {"Identity"}


@dataclass(frozen=True)
class Lifetimes:
    """When the memory of each activation is in use.

    Attributes:
        births: the step that makes it, by name; views have no memory of their own.
        deaths: the step of its last reader, by name.
    """

    births: Mapping[str, int]
    deaths: Mapping[str, int]

    def alive(self, step: int) -> list[str]:
        """What is in memory while a step runs."""
        return [name for name, birth in self.births.items() if birth <= step <= self.deaths[name]]


def peak_activation_bytes(
    graph: Graph, tensors: Tensors, bodies: Mapping[int, tuple[Body, ...]] | None = None
) -> int:
    """The largest sum of live activations over the file's order of execution.

    A tensor lives from the node that makes it to its last reader; the graph's inputs from the
    start, its outputs to the end. A Reshape makes no tensor; no operator works in place. While an
    If, Loop or Scan runs, its dearest body's peak is alive too. A symbolic dimension counts as 1,
    a tensor of unknown shape as nothing; weights are not activations.
    """
    sizes = {name: tensor.bytes or 0 for name, tensor in tensors.items()}
    return _peak(graph, lifetimes(graph), sizes, bodies or {})[0]


def peak_activation_formula(graph: Graph, tensors: Tensors, sizes: Mapping[str, int]) -> Count:
    """The bytes that are alive at the step where the peak lies at the given sizes, as a formula.

    Args:
        graph: the whole graph; what is inside bodies is left out.
        tensors: with symbolic dimensions.
        sizes: of the symbolic dimensions, for finding the step.
    """
    formulas = {name: tensor_bytes(tensor) or 0 for name, tensor in tensors.items()}
    spans = lifetimes(graph)
    numbers = {name: evaluate(formulas.get(name, 0), sizes) for name in spans.births}
    step = _peak(graph, spans, numbers, {})[1]
    return sum((formulas.get(name, 0) for name in spans.alive(step)), start=0)


def tensor_bytes(tensor: Tensor) -> Count | None:
    """The size of a tensor in memory as a formula; None where it is not known."""
    if tensor.shape is None or not tensor.dtype:
        return None
    return storage_formula(product(map(to_count, tensor.shape)), tensor.dtype)


def lifetimes(graph: Graph) -> Lifetimes:
    """The lifetimes of the graph's activations, steps being the positions of its nodes."""
    owner = {tensor.name: tensor.name for tensor in graph.inputs}
    births = dict.fromkeys(owner, 0)
    deaths = dict(births)
    for step, node in enumerate(graph.nodes):
        deaths.update({owner[name]: step for name in node.reads if name in owner})
        for name in filter(None, node.outputs):
            is_view = node.op_type in _VIEWS and node.input(0) in owner
            owner[name] = owner[node.input(0)] if is_view else name
            if not is_view:
                births[name] = deaths[name] = step
    end = len(graph.nodes)
    deaths.update({owner[output.name]: end for output in graph.outputs if output.name in owner})
    return Lifetimes(births, deaths)


def _peak(
    graph: Graph,
    spans: Lifetimes,
    sizes: Mapping[str, int],
    bodies: Mapping[int, Sequence[Body]],
) -> tuple[int, int]:
    """The peak in bytes, and its step."""
    changes = [0] * (len(graph.nodes) + 2)
    for name, birth in spans.births.items():
        changes[birth] += sizes.get(name, 0)
        changes[spans.deaths[name] + 1] -= sizes.get(name, 0)
    alive = list(accumulate(changes))
    for step, inside in bodies.items():
        alive[step] += max(
            (peak_activation_bytes(body.graph, body.tensors, body.bodies) for body in inside),
            default=0,
        )
    peak = max(alive)
    return peak, alive.index(peak)
