"""Image layout: which axes of an input are height and width."""

from convlens.analysis.graph import Graph, Node
from convlens.analysis.operators import COPIES, ELEMENTWISE, SHAPE_ARITHMETIC


def spatial_axes(name: str, rank: int, graph: Graph) -> range:
    """The spatial axes of an image, (batch, channels, *spatial) or (batch, *spatial, channels).

    Channels are last where the graph's first move is to bring the last axis to the second place,
    as tf2onnx has it; until then only operators that work value by value may touch the image.

    Args:
        name: of the graph's input.
        rank: of the input, at least 3.
        graph: that reads it.
    """
    consumers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for read in node.inputs:
            consumers.setdefault(read, []).append(node)
    waiting, seen = [name], set[str]()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        for node in consumers.get(current, ()):
            if node.op_type == "Transpose":
                order: tuple[int, ...] = node.attributes.get("perm") or ()
                if len(order) == rank and order[1] == rank - 1:
                    return range(1, rank - 1)
            elif node.op_type in ELEMENTWISE | COPIES:
                waiting.extend(node.outputs)
            elif node.op_type not in SHAPE_ARITHMETIC:
                return range(2, rank)
    return range(2, rank)
