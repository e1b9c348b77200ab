"""Shape functions of the products of matrices: Gemm, MatMul, Einsum, Attention."""

from collections.abc import Mapping, Sequence

from convlens.analysis.graph import Attributes
from convlens.analysis.shape_step import (
    Counts,
    ShapeFunction,
    Shapes,
    ShapeStep,
    broadcast,
    common_size,
)
from convlens.analysis.symbolic import Count


def _gemm(step: ShapeStep) -> Shapes:
    first, second = step.shape(0), step.shape(_second_index(step))
    if first is None or second is None:
        return None
    rows = first[1] if step.attribute("transA", 0) else first[0]
    columns = second[0] if step.attribute("transB", 0) else second[1]
    return [(rows, columns)]


def _second_index(step: ShapeStep) -> int:
    """Where the second operand of a product stands."""
    return 3 if "QLinear" in step.node.op_type or "QGemm" in step.node.op_type else 1


def _matmul(step: ShapeStep) -> Shapes:
    first, second = step.shape(0), step.shape(_second_index(step))
    if not first or not second:
        return None
    first = as_multiplied(first, step.node.attributes, "A")
    second = as_multiplied(second, step.node.attributes, "B")
    batch = broadcast([first[:-2], second[:-2]]) if len(first) > 2 or len(second) > 2 else ()
    rows = first[-2:-1] if len(first) > 1 else ()
    columns = second[-1:] if len(second) > 1 else ()
    return [(*batch, *rows, *columns)]


def as_multiplied(shape: Counts, attributes: Attributes, side: str) -> Counts:
    """The shape in which a product takes an operand, which a FusedMatMul may transpose first.

    Args:
        shape: of the operand.
        attributes: of the product.
        side: "A" for the first operand, "B" for the second.

    Source: onnxruntime's contributed operators, FusedMatMul.
    """
    if attributes.get(f"transBatch{side}", 0):
        shape = (*shape[1:-1], shape[0], shape[-1])
    if attributes.get(f"trans{side}", 0):
        shape = (*shape[:-2], shape[-1], shape[-2])
    return shape


def _einsum(step: ShapeStep) -> Shapes:
    terms = einsum_terms(step.attribute("equation", ""), step.shapes)
    if terms is None:
        return None
    sizes, output = terms
    return [tuple(sizes[label] for label in output)]


def einsum_terms(
    equation: str, shapes: Sequence[Counts | None]
) -> tuple[dict[str, Count], list[str]] | None:
    """The size of each label of an Einsum, and the labels of its output in order."""
    known = [shape for shape in shapes if shape is not None]
    labels = einsum_labels(equation, list(map(len, known)))
    if labels is None or len(known) < len(shapes):
        return None
    operands, output = labels
    sizes: dict[str, Count] = {}
    for operand, shape in zip(operands, known, strict=True):
        for label, dim in zip(operand, shape, strict=True):
            sizes[label] = common_size([sizes.get(label, 1), dim])
    return sizes, output


def einsum_labels(equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]] | None:
    """The labels of an Einsum's operands, axis by axis, and of its output.

    An ellipsis stands for as many labels, "...0" and on, as the operand has axes left.

    Returns:
        None where there are other than so many operands.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        return None
    operands = [_labels(term, rank) for term, rank in zip(terms, ranks, strict=True)]
    found = {label for operand in operands for label in operand}
    hidden = sorted(label for label in found if label.startswith("..."))
    if arrow:
        before, dots, after = right.partition("...")
        return operands, [*before, *(hidden if dots else ()), *after]
    return operands, [*hidden, *sorted(it for it in found - {*hidden} if left.count(it) == 1)]


def _labels(operand: str, rank: int) -> list[str]:
    before, dots, after = operand.partition("...")
    hidden = rank - len(before) - len(after) if dots else 0
    # Counted from the right, as broadcasting does.
    return [*before, *(f"...{index:03}" for index in range(999 - hidden, 999)), *after]


def _attention(step: ShapeStep) -> Shapes:
    """The first output has the query's rows and the value's columns; the caches are not told."""
    query, value = step.shape(0), step.shape(2)
    if query is None or value is None:
        return None
    if len(query) == 4:
        return [(*query[:3], value[3])]
    heads, value_heads = step.attribute("q_num_heads", 1), step.attribute("kv_num_heads", 1)
    return [(query[0], query[1], value[2] // value_heads * heads)]


def _packed_matmul(step: ShapeStep) -> Shapes:
    """MatMulNBits: the weight is packed, its size is in the attributes."""
    data = step.shape(0)
    return None if data is None else [(*data[:-1], step.attribute("N"))]


_MATRIX_PRODUCTS = {
    "MatMul", "MatMulInteger", "QLinearMatMul", "com.microsoft::DynamicQuantizeMatMul",
    "com.microsoft::FusedMatMul", "com.microsoft::MatMulIntegerToFloat",
}  # fmt: skip

PRODUCT_SHAPES: Mapping[str, ShapeFunction] = {
    **dict.fromkeys(_MATRIX_PRODUCTS, _matmul),
    **dict.fromkeys(("Gemm", "com.microsoft::FusedGemm", "com.microsoft::QGemm"), _gemm),
    "Attention": _attention,
    "Einsum": _einsum,
    "com.microsoft::MatMulNBits": _packed_matmul,
}
