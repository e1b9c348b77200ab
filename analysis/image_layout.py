"""Image layout: which axes of an input are height and width."""

from convlens.analysis.graph import Graph, Node
from convlens.analysis.operators import COPIES, ELEMENTWISE, SHAPE_ARITHMETIC

# Of its channels, rows and columns.
_RANK_OF_ONE_PICTURE = 3


def spatial_axes(name: str, rank: int, graph: Graph) -> range:
    """The spatial axes of an image, (batch, channels, *spatial) or (batch, *spatial, channels).

    Channels are last where the graph's first move is to bring the last axis to the second place,
    as tf2onnx has it; until then only operators that work value by value may touch the image. One
    picture without a batch, as detectors take it, is (channels, *spatial): an axis is added in
    front first.

    Args:
        name: of the graph's input.
        rank: of the input, at least 3.
        graph: that reads it.
    """
    as_given = {name}
    for node in graph.nodes:
        if as_given.isdisjoint(node.inputs):
            continue
        if node.op_type == "Transpose":
            order: tuple[int, ...] = node.attributes.get("perm") or ()
            if len(order) == rank and order[1] == rank - 1:
                return range(1, rank - 1)
        elif node.op_type == "Unsqueeze" and rank == _RANK_OF_ONE_PICTURE:
            if _new_axes(node, graph) == (0,):
                return range(1, rank)
        elif node.op_type in ELEMENTWISE or node.op_type in COPIES:
            as_given.update(node.outputs)
        elif node.op_type not in SHAPE_ARITHMETIC:
            break
    return range(2, rank)


def _new_axes(node: Node, graph: Graph) -> tuple[int, ...] | None:
    """The axes that an Unsqueeze adds; None where they are computed."""
    stored = graph.stored.get(node.input(1))
    if stored is not None and stored.values is not None:
        return tuple(stored.values.ravel())
    axes: tuple[int, ...] | None = node.attributes.get("axes")
    return axes
