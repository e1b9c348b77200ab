"""Memory: the activations that are alive at the same time."""

from itertools import accumulate

from convlens.analysis.graph import Graph
from convlens.analysis.operators import RESHAPES
from convlens.analysis.shape import Tensors

# Their output is their input's memory under another shape.
_VIEWS = RESHAPES | {"Identity"}


def peak_activation_bytes(graph: Graph, tensors: Tensors) -> int:
    """The largest sum of live activations over the file's order of execution.

    A tensor lives from the node that makes it to its last reader; the graph's inputs from the
    start, its outputs to the end. A Reshape makes no tensor; no operator works in place. A symbolic
    dimension counts as 1, a tensor of unknown shape as nothing; weights are not activations.
    """
    end = len(graph.nodes)
    owner = {tensor.name: tensor.name for tensor in graph.inputs}
    births = dict.fromkeys(owner, 0)
    deaths = dict(births)
    for step, node in enumerate(graph.nodes):
        read = [owner[name] for name in node.inputs if name in owner]
        deaths.update(dict.fromkeys(read, step))
        for name in filter(None, node.outputs):
            is_view = node.op_type in _VIEWS and node.input(0) in owner
            owner[name] = owner[node.input(0)] if is_view else name
            if not is_view:
                births[name] = deaths[name] = step
    deaths.update({owner[output.name]: end for output in graph.outputs if output.name in owner})
    changes = [0] * (end + 2)
    for name, birth in births.items():
        size = (tensors[name].bytes or 0) if name in tensors else 0
        changes[birth] += size
        changes[deaths[name] + 1] -= size
    return max(accumulate(changes))
