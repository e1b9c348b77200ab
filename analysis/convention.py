"""The same model in the terms of other tools, and how those differ from ours.

Sources: torchvision's `WeightsEnum` metadata (`num_params`, `_ops`); fvcore 0.1.5,
nn/flop_count.py and nn/jit_handles.py; onnx-tool 1.0.1, node.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from convlens.analysis.layer import Layer
from convlens.analysis.operators import ELEMENTWISE
from convlens.analysis.report import Report
from convlens.analysis.shape import Tensor, size_at_one


@dataclass(frozen=True)
class ConventionTotals:
    """What another tool would say of a model.

    Attributes:
        convention: its name, a key of `CONVENTIONS`.
        parameters: as it counts them.
        operations: as it counts them; a symbolic dimension counts as 1.
        unit: what it calls them.
        explanation: how they differ from `Totals.macs`, in one line.
    """

    convention: str
    parameters: int
    operations: int
    unit: str
    explanation: str

    def to_json(self) -> dict[str, int | str]:
        """The totals by name."""
        return dict(vars(self))


def in_convention(report: Report, convention: str) -> ConventionTotals:
    """State a report's totals as another tool counts them.

    Raises:
        KeyError: no convention has that name.
    """
    return CONVENTIONS[convention](report)


def _torchvision(report: Report) -> ConventionTotals:
    return ConventionTotals(
        "torchvision",
        report.totals.learnable,
        report.totals.macs,
        "MACs",
        "the same as ours; torchvision publishes the MACs of one picture in units of 10^9 under "
        "the name GFLOPS",
    )


def _flops(report: Report) -> ConventionTotals:
    return ConventionTotals(
        "flops",
        report.totals.learnable,
        report.totals.flops,
        "FLOPs",
        "a MAC counts as two operations, and biases, activations, normalisations and pooling "
        "count too",
    )


def _fvcore(report: Report) -> ConventionTotals:
    extra = sum(map(_fvcore_extra, report.layers))
    return ConventionTotals(
        "fvcore",
        report.totals.learnable,
        report.totals.macs + extra,
        "FLOPs",
        f"a MAC counts as one; to ours it adds {extra:,} for normalisations (2 an element of a "
        "BatchNorm, folded ones included, 5 of another), adaptive pooling and upsampling; "
        "activations and additions are left out",
    )


def _fvcore_extra(layer: Layer) -> int:
    """What fvcore counts beside products."""
    data, output = _elements(layer.inputs), _elements(layer.outputs)
    if layer.parameters.folded_batch_norm or layer.op_type == "BatchNormalization":
        return 2 * output
    if layer.op_type in {"GroupNormalization", "InstanceNormalization", "LayerNormalization"}:
        return 5 * data
    if layer.op_type in {"Resize", "Upsample"}:
        return {"nearest": 1, "linear": 4}.get(layer.attributes.get("mode", "nearest"), 0) * output
    # PyTorch exports an AdaptiveAvgPool to one position as a mean that keeps its axes.
    keeps_axes = layer.op_type == "ReduceMean" and layer.attributes.get("keepdims", 1) == 1
    return data if layer.op_type == "GlobalAveragePool" or keeps_axes else 0


def _onnx_tool(report: Report) -> ConventionTotals:
    products = sum(layer.macs or 0 for layer in report.layers)
    operations = sum(map(_onnx_tool_macs, report.layers))
    return ConventionTotals(
        "onnx-tool",
        report.totals.parameters,
        operations,
        "MACs",
        f"to ours it adds {operations - products:,} for biases, activations, pooling and other "
        "arithmetic at its own prices (an exponential 32, a division 4), and its parameters are "
        "those that the file stores",
    )


# onnx-tool's prices an element of the output.
_ONNX_TOOL_PRICES = {
    **dict.fromkeys(ELEMENTWISE, 1),
    **dict.fromkeys(("Exp", "Sigmoid", "Pow"), 32),
    **dict.fromkeys(("Div", "Reciprocal"), 4),
    **dict.fromkeys(("Erf", "Where"), 0),
    "BatchNormalization": 31,
    "Clip": 2,
    "Cos": 39,
    "DequantizeLinear": 2,
    "Elu": 35,
    "Gelu": 34,
    "HardSigmoid": 4,
    "HardSwish": 5,
    "InstanceNormalization": 14,
    "LeakyRelu": 2,
    "Log": 43,
    "LogSoftmax": 80,
    "LpNormalization": 33,
    "PRelu": 2,
    "QuantizeLinear": 2,
    "Sin": 39,
    "Softmax": 36,
    "Softplus": 76,
    "Sqrt": 24,
    "Tanh": 76,
}
_ONNX_TOOL_RESIZE = {"nearest": 0, "linear": 4, "cubic": 8}


def _onnx_tool_macs(layer: Layer) -> int:
    data, output = _elements(layer.inputs), _elements(layer.outputs)
    match layer.op_type:
        case "Conv" | "ConvTranspose" | "Gemm":
            return (layer.macs or 0) + (output if len(layer.inputs) > 2 else 0)
        case "MaxPool" | "AveragePool":
            return output * int(prod(layer.attributes.get("kernel_shape", ())))
        case "GlobalAveragePool":
            return data + 4 * output
        case "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd":
            return data
        case "LayerNormalization":
            rows = data // max(size_at_one((layer.input_shape() or (1,))[-1]), 1)
            return 7 * data + 29 * rows
        case "LRN":
            return output * (4 + 32 + 1 + int(layer.attributes.get("size", 1)))
        case "Resize" | "Upsample":
            mode = layer.attributes.get("mode", "nearest")
            return output * _ONNX_TOOL_RESIZE.get(mode, 0)
    if layer.op_type in _ONNX_TOOL_PRICES:
        operands = max(1, len(layer.inputs) - 1) if layer.op_type in {"Max", "Min", "Sum"} else 1
        return output * operands * _ONNX_TOOL_PRICES[layer.op_type]
    return layer.macs or 0


def _elements(tensors: tuple[Tensor, ...]) -> int:
    """The elements of the first tensor; 0 where they are not known."""
    return (tensors[0].elements or 0) if tensors else 0


CONVENTIONS: Mapping[str, Callable[[Report], ConventionTotals]] = {
    "torchvision": _torchvision,
    "fvcore": _fvcore,
    "flops": _flops,
    "onnx-tool": _onnx_tool,
}
