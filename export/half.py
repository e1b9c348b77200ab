"""fp32 -> fp16: half the bytes; inputs, outputs and what is sensitive stay fp32."""

import onnx
import onnx_ir as ir
from onnx_ir.passes import common
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

# Sums over many values and quotients of them, which fp16 rounds away or overflows.
SENSITIVE = frozenset(
    {
        "Exp", "GlobalAveragePool", "InstanceNormalization", "LayerNormalization", "LogSoftmax",
        "LpNormalization", "Pow", "ReduceMean", "ReduceSum", "Softmax",
    }
)  # fmt: skip


def to_fp16(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Convert weights and the values between the layers to fp16.

    Args:
        model: in fp32; left as it is.

    Returns:
        The model, which passes onnx's checker in full mode, and the names of the nodes that still
        compute in fp32.
    """
    source = onnx.ModelProto()
    source.CopyFrom(model)
    blocked = SENSITIVE.union(DEFAULT_OP_BLOCK_LIST)
    kept = tuple(node.name for node in model.graph.node if node.op_type in blocked)
    converted = convert_float_to_float16(source, keep_io_types=True, op_block_list=sorted(blocked))
    # Its casts of the inputs come last.
    ordered = ir.from_proto(converted)
    common.TopologicalSortPass()(ordered)
    half = ir.to_proto(ordered)
    onnx.checker.check_model(half, full_check=True)
    return half, kept
