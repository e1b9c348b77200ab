"""Arithmetic: the multiply-accumulates and the floating-point operations of every node."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from convlens.analysis.bounds import evaluate
from convlens.analysis.dimensions import counts
from convlens.analysis.graph import Node
from convlens.analysis.operators import (
    COPIES,
    ELEMENTWISE,
    GLOBAL_POOLINGS,
    MICROSOFT_ELEMENTWISE,
    MOVES,
    QUANTISED_OPERANDS,
    QUANTISED_TWINS,
    REDUCTIONS,
    RESHAPES,
    SHAPE_ARITHMETIC,
)
from convlens.analysis.shape import Shape, Tensors, shape_of, size_at_one
from convlens.analysis.shape_bodies import Body
from convlens.analysis.shape_products import as_multiplied, einsum_terms
from convlens.analysis.shape_step import Counts, common_size
from convlens.analysis.sliding_window import POOLINGS, sliding_windows
from convlens.analysis.symbolic import Count, product

# Operations an element of the input. A BatchNormalization is a multiplication and an addition; the
# others first compute their statistics: add up, subtract the mean, square, add up, divide; a
# Softmax: maximum, subtract, exponential, add up, divide.
_OPERATIONS_PER_ELEMENT = {
    "BatchNormalization": 2,
    "GroupNormalization": 7,
    "InstanceNormalization": 7,
    "LayerNormalization": 7,
    "LogSoftmax": 5,
    "RMSNormalization": 4,
    "Softmax": 5,
}
# Each value is compared once.
_COMPARED = frozenset({"NonZero", "TopK"})
# A bilinear sample: four taps, each multiplied and added.
_FLOPS_PER_SAMPLE = 8

# The operators that `macs` counts.
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
_ATTENTIONS = frozenset({"Attention", "com.microsoft::MultiHeadAttention"})
_WITHOUT_ARITHMETIC = COPIES | MOVES | RESHAPES | SHAPE_ARITHMETIC

# Taps an axis that a Resize reads.
_RESIZE_TAPS = {"nearest": 0, "linear": 2, "cubic": 4}


@dataclass(frozen=True)
class Cost:
    """The arithmetic of one node; None where it is not known.

    Attributes:
        macs: multiply-accumulates of the products (Conv, ConvTranspose, Gemm, MatMul, Einsum, the
            two products of an attention, and their quantised twins), without biases.
        flops: all arithmetic; 1 MAC = 2 FLOPs.
        exact: False for a Loop whose trips are computed, of which one is counted.
    """

    macs: Count | None
    flops: Count | None
    exact: bool = True


def count_cost(node: Node, tensors: Tensors, bodies: Sequence[Body] = ()) -> Cost:
    """Count the arithmetic of one node; a symbolic dimension counts as 1.

    Args:
        node: the operator.
        tensors: of its graph.
        bodies: the graphs inside the node, if it is an If, Loop or Scan.
    """
    return _cost(node, tensors, bodies, _sizes_at_one)


def cost_formula(node: Node, tensors: Tensors, bodies: Sequence[Body] = ()) -> Cost:
    """As `count_cost`, as formulas in the symbolic dimensions."""
    return _cost(node, tensors, bodies, counts)


@lru_cache(maxsize=4096)  # networks repeat their blocks
def _sizes_at_one(shape: Shape) -> Counts:
    return tuple(map(size_at_one, shape))


def _cost(
    node: Node, tensors: Tensors, bodies: Sequence[Body], read: Callable[[Shape], Counts]
) -> Cost:
    if bodies:
        return _cost_of_bodies(node, bodies, read)
    try:
        return _cost_of_operator(node, tensors, read)
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError):
        # Attributes and shapes that contradict each other, as in a damaged file.
        return Cost(None, None)


def _cost_of_operator(node: Node, tensors: Tensors, read: Callable[[Shape], Counts]) -> Cost:
    def shape(name: str) -> Counts | None:
        found = shape_of(name, tensors)
        return None if found is None else read(found)

    op_type = QUANTISED_TWINS.get(node.op_type, node.op_type)
    if op_type in _WITHOUT_ARITHMETIC:
        return Cost(0, 0)
    output = shape(node.output)
    if node.op_type in _ATTENTIONS:
        return _attention(node, [shape(name) for name in node.inputs])
    if op_type not in PRODUCTS:
        return Cost(0, _flops(node, op_type, shape(node.input(0)), output))
    operands = [node.input(index) for index in QUANTISED_OPERANDS.get(node.op_type, (0, 1, 2))]
    shapes = [shape(name) for name in (node.inputs if op_type == "Einsum" else operands[:2])]
    macs = _macs(node, op_type, shapes, output)
    if macs is None or output is None:
        return Cost(None, None)
    has_bias = op_type != "Einsum" and any(operands[2:])
    return Cost(macs, 2 * macs + (product(output) if has_bias else 0))


def _cost_of_bodies(node: Node, bodies: Sequence[Body], read: Callable[[Shape], Counts]) -> Cost:
    """An If costs its dearer branch; a Loop or Scan its body, as often as it runs."""
    costs = [_cost_of_body(body, read) for body in bodies]
    if any(cost.macs is None or cost.flops is None for cost in costs):
        return Cost(None, None, exact=False)
    dearest = max(costs, key=lambda cost: (_size(cost.macs), _size(cost.flops)))
    if node.op_type == "If" or dearest.macs is None or dearest.flops is None:
        return dearest
    runs = bodies[0].runs
    times = 1 if runs is None else max(runs, 0)
    exact = dearest.exact and runs is not None
    return Cost(dearest.macs * times, dearest.flops * times, exact)


def _cost_of_body(body: Body, read: Callable[[Shape], Counts]) -> Cost:
    costs = [
        _cost(node, body.tensors, body.bodies.get(node.index, ()), read)
        for node in body.graph.nodes
    ]
    macs = [cost.macs for cost in costs if cost.macs is not None]
    flops = [cost.flops for cost in costs if cost.flops is not None]
    if len(macs) < len(costs):
        return Cost(None, None, exact=False)
    # Arithmetic that is not known makes the sum a lower bound.
    exact = all(cost.exact for cost in costs) and len(flops) == len(costs)
    return Cost(sum(macs), sum(flops), exact)


def _size(count: Count | None) -> Count:
    return 0 if count is None else evaluate(count, {})


def conv_macs(weight: Counts, output: Counts) -> Count:
    """Count the multiply-accumulates of one Conv: an output takes one for each of its weights.

    Args:
        weight: (out_channels, in_channels / groups, *kernel).
        output: (batch, out_channels, *spatial).

    Source: ONNX operator specification, Conv.
    """
    return product(output) * product(weight[1:])


def conv_transpose_macs(data: Counts, weight: Counts) -> Count:
    """Count the multiply-accumulates of one ConvTranspose: an input takes one for each weight.

    Args:
        data: (batch, in_channels, *spatial).
        weight: (in_channels, out_channels / groups, *kernel).

    Source: ONNX operator specification, ConvTranspose.
    """
    return product(data) * product(weight[1:])


def gemm_macs(data: Counts, output: Counts, *, trans_a: bool = False) -> Count:
    """Count the multiply-accumulates of one Gemm: M * N * K.

    Args:
        data: (M, K); (K, M) with `trans_a`.
        output: (M, N).
        trans_a: Gemm's transA.

    Source: ONNX operator specification, Gemm.
    """
    return product(output) * product(data[:1] if trans_a else data[1:])


def matmul_macs(data: Counts, output: Counts) -> Count:
    """Count the multiply-accumulates of one MatMul: an output takes K.

    Args:
        data: (..., M, K) or (K,).
        output: (..., M, N), an axis short for each operand of one axis.

    Source: ONNX operator specification, MatMul.
    """
    return product(output) * product(data[-1:])


def einsum_macs(equation: str, operands: Sequence[Counts | None]) -> Count | None:
    """Count the multiply-accumulates of an Einsum: one for each setting of its labels.

    Args:
        equation: as "bij,bjk->bik".
        operands: their shapes.

    Returns:
        0 for a single operand, whose entries are moved or added up; None where a shape is missing.

    Source: ONNX operator specification, Einsum.
    """
    if len(operands) < 2:
        return 0
    terms = einsum_terms(equation, operands)
    return None if terms is None else product(terms[0].values())


def _macs(
    node: Node, op_type: str, operands: Sequence[Counts | None], output: Counts | None
) -> Count | None:
    if op_type == "Einsum":
        return einsum_macs(str(node.attributes.get("equation", "")), operands)
    data, weight = (*operands, None, None)[:2]
    if data is None or weight is None or output is None:
        return None
    match op_type:
        case "Conv":
            return conv_macs(weight, output)
        case "ConvTranspose":
            return conv_transpose_macs(data, weight)
        case "Gemm":
            columns = data[0 if node.attributes.get("transA", 0) else -1]
            rows = weight[-1 if node.attributes.get("transB", 0) else 0]
            return gemm_macs((1, common_size([columns, rows])), output)
        case _:
            data = as_multiplied(data, node.attributes, "A")
            weight = as_multiplied(weight, node.attributes, "B")
            # Where a picture's size is symbolic, the weight says what it must come to.
            rows = weight[-2] if len(weight) > 1 else weight[-1]
            return matmul_macs((common_size([data[-1], rows]),), output)


def _attention(node: Node, inputs: Sequence[Counts | None]) -> Cost:
    """Two products, of queries with keys and of their Softmax with values.

    Source: ONNX operator specification, Attention; (batch, heads, positions, size), or the heads
    side by side in the last of three axes.
    """
    query, key, value = (*inputs, None, None, None)[:3]
    if query is None or key is None or value is None:
        return Cost(None, None)
    default = node.attributes.get("num_heads", 1)
    heads = query[1] if len(query) == 4 else node.attributes.get("q_num_heads", default)
    value_heads = value[1] if len(value) == 4 else node.attributes.get("kv_num_heads", default)
    scores = query[0] * heads * query[-2] * key[-2]
    size = query[-1] if len(query) == 4 else query[-1] // heads
    value_size = value[-1] if len(value) == 4 else value[-1] // value_heads
    macs = scores * (size + value_size)
    return Cost(macs, 2 * macs + scores * _OPERATIONS_PER_ELEMENT["Softmax"])


def _flops(node: Node, op_type: str, data: Counts | None, output: Counts | None) -> Count | None:
    """The operations of a node without MACs; None where the operator or a shape is not known."""
    if data is None or output is None:
        return None
    if op_type in ELEMENTWISE or op_type in MICROSOFT_ELEMENTWISE:
        return product(output)
    if op_type in _OPERATIONS_PER_ELEMENT:
        return product(data) * _OPERATIONS_PER_ELEMENT[op_type]
    if op_type in GLOBAL_POOLINGS or op_type in REDUCTIONS or op_type in _COMPARED:
        return product(data)
    if op_type in POOLINGS:
        windows = sliding_windows(op_type, node.attributes, None, None)
        if windows is not None:
            return product(output) * prod(window.kernel for window in windows)
    if op_type == "LRN":
        # Square, add up over the window, scale, shift, raise to a power, divide.
        return product(data) * (int(node.attributes.get("size", 1)) + 5)
    if op_type == "RoiAlign":
        # Without a ratio, how many samples are taken depends on the sizes of the regions.
        ratio = node.attributes.get("sampling_ratio", 0)
        return product(output) * ratio**2 * _FLOPS_PER_SAMPLE if ratio else None
    if op_type in {"Resize", "Upsample"}:
        return _resize_flops(node, data, output)
    return None


def _resize_flops(node: Node, data: Counts, output: Counts) -> Count | None:
    """A multiplication and an addition for each tap, over the axes whose size changes."""
    taps = _RESIZE_TAPS.get(str(node.attributes.get("mode", "nearest")))
    if taps is None:
        return None
    axes = sum(before != after for before, after in zip(data, output, strict=False))
    return 2 * product(output) * taps**axes if taps and axes else 0
