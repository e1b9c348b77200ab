"""Stored tensors that nothing reads."""

from collections.abc import Iterator

from convlens.analysis.graph import Graph


def unused_initializers(graph: Graph) -> tuple[str, ...]:
    """The names of the stored tensors that no node, no body and no output of the graph reads."""
    read = set(_read(graph))
    return tuple(name for name in graph.stored if name not in read)


def _read(graph: Graph) -> Iterator[str]:
    """Every name that is read in the graph or in the bodies of its nodes, which see its tensors."""
    for tensor in graph.outputs:
        yield tensor.name
    for node in graph.nodes:
        yield from node.inputs
        for body in node.bodies:
            yield from _read(body)
