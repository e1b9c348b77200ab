"""The order of execution, and what is wrong with a graph that has one."""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from convlens.analysis.errors import GraphError
from convlens.analysis.graph import Graph, Node

# A damaged file may have thousands of the same kind.
_MAX_NOTES_OF_A_KIND = 3


def in_order(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes so that each comes after those whose outputs it reads, else in the file's order.

    The format demands such an order; some writers do not keep it.

    Raises:
        GraphError: they read each other's outputs in a circle.
    """
    makers = {name: node.index for node in nodes for name in node.outputs if name}
    if all(makers.get(name, -1) < node.index for node in nodes for name in node.reads):
        return tuple(nodes)
    waits = [
        {makers[name] for name in node.reads if name in makers and name not in node.outputs}
        for node in nodes
    ]
    own = [name for node in nodes for name in node.reads if name in node.outputs]
    if own:
        raise GraphError(f"a node reads its own output {own[0]!r}")
    readers: list[list[int]] = [[] for _ in nodes]
    for index, earlier in enumerate(waits):
        for maker in earlier:
            readers[maker].append(index)
    ready = [index for index, earlier in enumerate(waits) if not earlier]
    order: list[int] = []
    while ready:
        done = heapq.heappop(ready)
        order.append(done)
        for reader in readers[done]:
            waits[reader].discard(done)
            if not waits[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        stuck = next(nodes[index] for index, earlier in enumerate(waits) if earlier)
        raise GraphError(f"the graph has a cycle: {stuck.name} waits for its own output")
    return tuple(replace(nodes[old], index=new) for new, old in enumerate(order))


def graph_notes(graph: Graph) -> tuple[str, ...]:
    """What contradicts itself in the graph, a line each."""
    made = Counter(name for node in graph.nodes for name in node.outputs if name)
    made.update(graph.stored.keys() & made.keys())
    twice = [f"{name} is made more than once" for name, count in made.items() if count > 1]
    dangling = [f"{name} is read, and nothing makes it" for name in graph.captured]
    notes: list[str] = []
    for kind in (twice, dangling):
        notes += kind[:_MAX_NOTES_OF_A_KIND]
        if len(kind) > _MAX_NOTES_OF_A_KIND:
            notes.append(f"and {len(kind) - _MAX_NOTES_OF_A_KIND:,} more such tensors")
    return tuple(notes)
