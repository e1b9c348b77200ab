"""Size restrictions: what layers of a fixed width demand of H and W."""

import re
from collections.abc import Iterator
from math import prod

from convlens.analysis.dimensions import to_count
from convlens.analysis.graph import Graph, Node
from convlens.analysis.shape import Tensors, shape_of
from convlens.analysis.shape_checks import joined_axes
from convlens.analysis.shapes import BATCH_SYMBOL, SYMBOLS
from convlens.analysis.symbolic import Count, Expression, product


def size_restrictions(graph: Graph, tensors: Tensors) -> tuple[str, ...]:
    """The layers that only take certain sizes of picture, a line each.

    A fully connected layer has as many weights a unit as the map before it has values, and a
    Reshape to rows of a fixed length makes more rows than pictures of a larger map.

    Args:
        graph: the operators.
        tensors: with symbolic shapes.
    """
    return tuple(
        f"{node.name} takes {wanted:,} values a picture and is given {given}: "
        "it works with those sizes of picture where the two are the same"
        for node in graph.nodes
        for given, wanted in _restrictions(node, tensors)
    )


def split_pictures(graph: Graph, tensors: Tensors) -> tuple[str, ...]:
    """The Reshapes that make several rows of a picture larger than theirs, a line each.

    Args:
        graph: the operators.
        tensors: with the sizes that were asked for.
    """
    return tuple(
        f"{node.name} takes {wanted:,} values a picture and is given {given:,}: "
        f"each picture becomes {given // wanted:,} rows"
        for node in graph.nodes
        for given, wanted in _split(node, tensors)
    )


def _split(node: Node, tensors: Tensors) -> Iterator[tuple[int, int]]:
    data, output = shape_of(node.input(0), tensors), shape_of(node.output, tensors)
    if node.op_type != "Reshape" or not data or not output or len(output) != 2 or len(data) < 3:
        return
    rest, wanted = [dim for dim in data[1:] if isinstance(dim, int)], output[1]
    # Channels that come last are rows by themselves.
    if len(rest) < len(data) - 1 or not isinstance(wanted, int) or wanted == data[-1]:
        return
    if prod(rest) > wanted > 0:
        yield prod(rest), wanted


def _restrictions(node: Node, tensors: Tensors) -> Iterator[tuple[Count, int]]:
    axes = joined_axes(node, tensors)
    if axes is not None:
        columns, rows = axes
        if isinstance(columns, str) and isinstance(rows, int):
            yield to_count(columns), rows
    data, output = shape_of(node.input(0), tensors), shape_of(node.output, tensors)
    if node.op_type != "Reshape" or not data or not output:
        return
    # Rows that lie as they are in the data, as channels that come last, are as many as there are.
    if data[1 - len(output) :] == output[1:]:
        return
    given, wanted = product(map(to_count, data[1:])), product(map(to_count, output[1:]))
    if isinstance(given, Expression) and isinstance(wanted, int) and _depends_on_size(given):
        yield given, wanted


def _depends_on_size(count: Expression) -> bool:
    names = set(re.findall(r"\w+", str(count)))
    return BATCH_SYMBOL not in names and not names.isdisjoint(SYMBOLS)
