"""Checks of the inferred shapes that need no inference: formulas and counts that must agree."""

from math import prod

from convlens.analysis.errors import InputSizeError
from convlens.analysis.graph import Graph, Node
from convlens.analysis.shape import Dim, Shape, Tensors, format_shape, format_size, shape_of
from convlens.analysis.sliding_window import sliding_windows


def check_shapes(graph: Graph, tensors: Tensors) -> dict[int, str]:
    """Compare what was inferred with what the operators demand.

    Returns:
        A line for each node whose output size by onnx's inference is not that of the formula, by
        the node's index.

    Raises:
        InputSizeError: an operator cannot take the shape that reaches it.
    """
    disputes = {}
    for node in graph.nodes:
        _check_reshape(node, graph, tensors)
        _check_product(node, tensors)
        dispute = _check_sliding_windows(node, tensors)
        if dispute is not None:
            disputes[node.index] = dispute
    return disputes


def window_output_sizes(node: Node, tensors: Tensors) -> tuple[int | None, ...] | None:
    """The output sizes of a Conv or pooling node by the formula, one a spatial axis.

    Returns:
        None where the node has no sliding window or its input's shape is not known; an entry is
        None where the input's size is symbolic.
    """
    data = shape_of(node.input(0), tensors)
    windows = sliding_windows(node.op_type, node.attributes, data, shape_of(node.input(1), tensors))
    if windows is None or data is None:
        return None
    return tuple(window.output_size(size) for window, size in zip(windows, data[2:], strict=True))


def _check_sliding_windows(node: Node, tensors: Tensors) -> str | None:
    expected = window_output_sizes(node, tensors)
    if expected is None:
        return None
    if any(size is not None and size < 1 for size in expected):
        data = shape_of(node.input(0), tensors) or ()
        raise InputSizeError(
            f"{node.name}: the {format_size(data[2:])} map that reaches it is smaller than its "
            "window; the network needs a larger picture"
        )
    found = (shape_of(node.output, tensors) or ())[2:]
    agree = all(
        wanted is None or wanted == size
        for wanted, size in zip(expected, found, strict=False)
        if isinstance(size, int)
    )
    if agree:
        return None
    return (
        f"{node.name}: onnx infers the output size {format_size(found)}, "
        f"the formula gives {format_size(expected)}"
    )


def _check_reshape(node: Node, graph: Graph, tensors: Tensors) -> None:
    """The elements that a constant target shape asks for must be there."""
    data = shape_of(node.input(0), tensors)
    target = graph.stored.get(node.input(1))
    if node.op_type != "Reshape" or data is None or target is None or target.values is None:
        return
    # A 0 copies a dimension of the input and a -1 takes what is left.
    wanted = [int(dim) for dim in target.values.ravel() if dim > 0]
    have = prod(dim for dim in data if isinstance(dim, int))
    all_known = all(isinstance(dim, int) for dim in data)
    if all_known and have % prod(wanted):
        raise InputSizeError(
            f"{node.name}: [{format_shape(data)}] cannot be reshaped to "
            f"[{format_shape(target.values.ravel().tolist())}]; "
            "the network takes only the picture size and batch that it was made for"
        )


def _check_product(node: Node, tensors: Tensors) -> None:
    """The columns of the first matrix must be as many as the rows of the second."""
    first, second = shape_of(node.input(0), tensors), shape_of(node.input(1), tensors)
    if node.op_type not in {"Gemm", "MatMul"} or not first or not second:
        return
    columns, rows = first[-1], second[-2] if len(second) > 1 else second[-1]
    if node.op_type == "Gemm":
        columns = _of_matrix(first, transposed=bool(node.attributes.get("transA", 0)), axis=1)
        rows = _of_matrix(second, transposed=bool(node.attributes.get("transB", 0)), axis=0)
    if isinstance(columns, int) and isinstance(rows, int) and columns != rows:
        raise InputSizeError(
            f"{node.name}: {columns:,} values reach its {rows:,} weights a unit; "
            "the network takes only the picture size that it was made for"
        )


def _of_matrix(shape: Shape, *, transposed: bool, axis: int) -> Dim:
    if len(shape) != 2:
        return "?"
    return shape[1 - axis if transposed else axis]
