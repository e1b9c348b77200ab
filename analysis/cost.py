"""Arithmetic: the multiply-accumulates and the floating-point operations of every node."""

from dataclasses import dataclass
from math import prod

from convlens.analysis.graph import Node
from convlens.analysis.operators import (
    COPIES,
    ELEMENTWISE,
    GLOBAL_POOLINGS,
    MOVES,
    REDUCTIONS,
    RESHAPES,
    SHAPE_ARITHMETIC,
)
from convlens.analysis.shape import Shape, Tensors, elements, shape_of
from convlens.analysis.sliding_window import POOLINGS, sliding_windows

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
# The operators that `macs` counts.
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_WITHOUT_ARITHMETIC = COPIES | MOVES | RESHAPES | SHAPE_ARITHMETIC


@dataclass(frozen=True)
class Cost:
    """The arithmetic of one node; None where it is not known.

    Attributes:
        macs: multiply-accumulates of Conv, ConvTranspose, Gemm and MatMul, without biases.
        flops: all arithmetic; 1 MAC = 2 FLOPs.
    """

    macs: int | None
    flops: int | None


def count_cost(node: Node, tensors: Tensors) -> Cost:
    """Count the arithmetic of one node; a symbolic dimension counts as 1."""
    inputs = tuple(shape_of(name, tensors) for name in node.inputs)
    output = shape_of(node.output, tensors)
    if node.op_type not in PRODUCTS:
        return Cost(0, _flops(node, inputs, output))
    macs = _macs(node, inputs, output)
    if macs is None or output is None:
        return Cost(None, None)
    return Cost(macs, 2 * macs + (elements(output) if node.input(2) else 0))


def conv_macs(weight: Shape, output: Shape) -> int:
    """Count the multiply-accumulates of one Conv: an output takes one for each of its weights.

    Args:
        weight: (out_channels, in_channels / groups, *kernel).
        output: (batch, out_channels, *spatial).

    Source: ONNX operator specification, Conv.
    """
    return elements(output) * elements(weight[1:])


def conv_transpose_macs(data: Shape, weight: Shape) -> int:
    """Count the multiply-accumulates of one ConvTranspose: an input takes one for each weight.

    Args:
        data: (batch, in_channels, *spatial).
        weight: (in_channels, out_channels / groups, *kernel).

    Source: ONNX operator specification, ConvTranspose.
    """
    return elements(data) * elements(weight[1:])


def gemm_macs(data: Shape, output: Shape, *, trans_a: bool = False) -> int:
    """Count the multiply-accumulates of one Gemm: M * N * K.

    Args:
        data: (M, K); (K, M) with `trans_a`.
        output: (M, N).
        trans_a: Gemm's transA.

    Source: ONNX operator specification, Gemm.
    """
    return elements(output) * elements(data[:1] if trans_a else data[1:])


def matmul_macs(data: Shape, output: Shape) -> int:
    """Count the multiply-accumulates of one MatMul: an output takes K.

    Args:
        data: (..., M, K) or (K,).
        output: (..., M, N), an axis short for each operand of one axis.

    Source: ONNX operator specification, MatMul.
    """
    return elements(output) * elements(data[-1:])


def _macs(node: Node, inputs: tuple[Shape | None, ...], output: Shape | None) -> int | None:
    data, weight = (*inputs, None, None)[:2]
    if data is None or weight is None or output is None:
        return None
    match node.op_type:
        case "Conv":
            return conv_macs(weight, output)
        case "ConvTranspose":
            return conv_transpose_macs(data, weight)
        case "Gemm":
            return gemm_macs(data, output, trans_a=bool(node.attributes.get("transA", 0)))
        case _:
            return matmul_macs(data, output)


def _flops(node: Node, inputs: tuple[Shape | None, ...], output: Shape | None) -> int | None:
    """The operations of a node without MACs; None where the operator or a shape is not known."""
    if node.op_type in _WITHOUT_ARITHMETIC:
        return 0
    data = inputs[0] if inputs else None
    if data is None or output is None:
        return None
    if node.op_type in ELEMENTWISE:
        return elements(output)
    if node.op_type in _OPERATIONS_PER_ELEMENT:
        return elements(data) * _OPERATIONS_PER_ELEMENT[node.op_type]
    if node.op_type in GLOBAL_POOLINGS | REDUCTIONS:
        return elements(data)
    if node.op_type in POOLINGS:
        windows = sliding_windows(node.op_type, node.attributes, data, None)
        if windows is not None:
            return elements(output) * prod(window.kernel for window in windows)
    return None
