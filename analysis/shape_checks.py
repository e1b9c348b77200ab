"""Checks of the inferred shapes that need no inference: formulas and counts that must agree."""

from itertools import zip_longest
from math import prod

from convlens.analysis.errors import InputSizeError
from convlens.analysis.graph import Graph, Node
from convlens.analysis.shape import Dim, Shape, Tensors, format_shape, format_size, shape_of
from convlens.analysis.sliding_window import CONVOLUTIONS, POOLINGS, sliding_windows

_PRODUCTS = frozenset({"Gemm", "MatMul"})


# Since opset 7 they broadcast by numpy's rules; before, an attribute says how.
_BROADCASTING = frozenset({"Add", "Div", "Mul", "Sub", "Sum"})


def check_shapes(graph: Graph, tensors: Tensors, *, resized: bool = False) -> None:
    """Compare what was inferred with what the operators demand.

    Args:
        graph: the operators.
        tensors: their shapes.
        resized: whether the picture has another size than the file says. Branches that fit in the
            file may not fit then.

    Raises:
        InputSizeError: an operator cannot take the shape that reaches it.
    """
    for node in graph.nodes:
        if node.op_type == "Reshape":
            _check_reshape(node, graph, tensors)
        elif node.op_type in _PRODUCTS:
            _check_product(node, tensors)
        elif node.op_type in CONVOLUTIONS or node.op_type in POOLINGS:
            _check_sliding_windows(node, tensors)
        elif resized and node.op_type in _BROADCASTING and "broadcast" not in node.attributes:
            _check_operands(node, tensors)


def _check_operands(node: Node, tensors: Tensors) -> None:
    shapes = [shape_of(name, tensors) or () for name in node.inputs]
    for dims in zip_longest(*(shape[::-1] for shape in shapes), fillvalue=1):
        if len({dim for dim in dims if isinstance(dim, int) and dim != 1}) > 1:
            operands = " and ".join(f"[{format_shape(shape)}]" for shape in shapes)
            raise InputSizeError(
                f"{node.name}: {operands} do not fit together; "
                "the network takes only the picture size that it was made for"
            )


def _check_sliding_windows(node: Node, tensors: Tensors) -> None:
    data = shape_of(node.input(0), tensors)
    windows = sliding_windows(node.op_type, node.attributes, data, shape_of(node.input(1), tensors))
    if windows is None or data is None:
        return
    outputs = [window.output_size(size) for window, size in zip(windows, data[2:], strict=True)]
    if any(size is not None and size < 1 for size in outputs):
        raise InputSizeError(
            f"{node.name}: the {format_size(data[2:])} map that reaches it is smaller than its "
            "window; the network needs a larger picture"
        )


def _check_reshape(node: Node, graph: Graph, tensors: Tensors) -> None:
    """The elements that a constant target shape asks for must be there."""
    data = shape_of(node.input(0), tensors)
    target = graph.stored.get(node.input(1))
    if data is None or target is None or target.values is None:
        return
    known = [dim for dim in data if isinstance(dim, int)]
    if len(known) < len(data) or not target.dtype.startswith("int"):
        return
    keeps_zero = node.attributes.get("allowzero", 0)
    wanted = [
        known[axis] if dim == 0 and axis < len(known) and not keeps_zero else dim
        for axis, dim in enumerate(target.values.ravel())
    ]
    have, asked = prod(known), prod(dim for dim in wanted if dim != -1)
    # A -1 takes what is left.
    fits = asked > 0 and have % asked == 0 if -1 in wanted else have == asked
    if not fits and have:
        raise InputSizeError(
            f"{node.name}: [{format_shape(data)}] cannot be reshaped to "
            f"[{format_shape(target.values.ravel())}]; "
            "the network takes only the picture size and batch that it was made for"
        )


def _check_product(node: Node, tensors: Tensors) -> None:
    """The columns of the first matrix must be as many as the rows of the second."""
    columns, rows = joined_axes(node, tensors) or ("?", "?")
    if isinstance(columns, int) and isinstance(rows, int) and columns != rows:
        raise InputSizeError(
            f"{node.name}: {columns:,} values reach its {rows:,} weights a unit; "
            "the network takes only the picture size that it was made for"
        )


def joined_axes(node: Node, tensors: Tensors) -> tuple[Dim, Dim] | None:
    """The columns of a product's first matrix and the rows of its second, which must agree.

    Returns:
        None where the operator is no product, or a shape is not known.
    """
    first, second = shape_of(node.input(0), tensors), shape_of(node.input(1), tensors)
    if node.op_type not in _PRODUCTS or not first or not second:
        return None
    if node.op_type == "MatMul":
        return first[-1], second[-2] if len(second) > 1 else second[-1]
    return (
        _of_matrix(first, transposed=bool(node.attributes.get("transA", 0)), axis=1),
        _of_matrix(second, transposed=bool(node.attributes.get("transB", 0)), axis=0),
    )


def _of_matrix(shape: Shape, *, transposed: bool, axis: int) -> Dim:
    if len(shape) != 2:
        return "?"
    return shape[1 - axis if transposed else axis]
