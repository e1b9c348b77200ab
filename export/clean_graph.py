"""Passes over an exported graph: fold, fuse, and drop what computes nothing.

They are onnxscript's own, less those that look at the values of weights: one stores equal tensors
once, others drop biases that are zero, and a network whose BatchNorm scales are all ones and whose
biases are all zero would come out with fewer parameters than it has.
"""

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules import common as rules

_RULES = (
    rules.fuse_batchnorm_into_conv_rule,
    rules.fuse_batchnorm_into_conv_transpose_rule,
    rules.fuse_batchnorm_into_gemm_rule,
    rules.normalize_pad_format_conv_rule,
    rules.fuse_pad_into_conv_rule,
    rules.materialize_reshape_shape_rule,
    rules.reshape_reshape_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.no_op_transpose_rule,
    rules.transpose_transpose_rule,
    rules.no_op_cast_rule,
    rules.cast_cast_rule,
    rules.no_op_expand_rule,
    *rules.expand_before_binary_op_rules,
    rules.collapse_slice_rule,
    rules.successive_relu_clip_rule,
    rules.successive_clip_relu_rule,
    rules.successive_clip_rule,
    rules.successive_relu_rule,
)
_ROUNDS = 2  # what one round folds, the next can fuse


def clean_graph(model: ir.Model) -> ir.Model:
    """Fold constants, fuse BatchNorm into convolutions, remove what is unused or does nothing.

    Args:
        model: as the exporter made it; it may be changed in place.

    Returns:
        The model that computes the same with fewer nodes.
    """
    common.InlinePass()(model)
    for _ in range(_ROUNDS):
        optimizer.fold_constants(model)
        model = rewriter.rewrite(model, _RULES)
    _drop_pooling_of_single_pixels(model)
    ir.passes.Sequential(
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(model)
    return model


def _drop_pooling_of_single_pixels(model: ir.Model) -> None:
    """AdaptiveAvgPool on a map that has the wanted size already comes out as such a node."""
    for node in list(model.graph):
        if node.op_type != "AveragePool":
            continue
        windows = [
            node.attributes[name].as_ints()
            for name in ("kernel_shape", "strides", "pads")
            if name in node.attributes
        ]
        kernel, *moves = windows
        strides, pads = [*moves, [0] * 4][:2]
        if set(kernel) == set(strides) == {1} and not any(pads):
            (source,), (output,) = node.inputs[:1], node.outputs
            assert source is not None
            output.replace_all_uses_with(source)
            model.graph.remove(node, safe=True)
