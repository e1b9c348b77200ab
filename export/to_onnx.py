"""PyTorch network -> clean ONNX graph: one input, one output, a dynamic batch, readable names."""

import onnx
import onnx_ir as ir
import torch
from torch import nn

from convlens.export.errors import ConversionError
from convlens.export.node_names import NAME_SCOPES, name_after_modules

INPUT = "input"
OUTPUT = "logits"
BATCH = "batch"


def to_onnx(network: nn.Module, input_shape: tuple[int, ...]) -> onnx.ModelProto:
    """Convert a network to an ONNX model that onnx's checker passes in full mode.

    Args:
        network: takes one tensor and gives one; its BatchNorms are folded into the convolutions.
        input_shape: of one picture, without the batch.

    Returns:
        A model with the input `input`, the output `logits` and a symbolic dimension `batch`; each
        node is named after its module and carries nothing of the machine that it was made on.

    Raises:
        ConversionError: PyTorch's exporter cannot follow the network.
    """
    # A batch of one would be taken for a constant.
    example = torch.zeros(2, *input_shape)
    try:
        program = torch.onnx.export(
            network.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim(BATCH)},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ConversionError(
            f"PyTorch cannot export {type(network).__name__}: {reason}"
        ) from error
    assert program is not None
    model = program.model
    name_after_modules(model)
    _forget_origins(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _forget_origins(model: ir.Model) -> None:
    """Drop the exporter's notes in place: they hold stack traces with paths of this machine."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph.all_nodes():
        scopes = node.metadata_props.get(NAME_SCOPES)
        node.metadata_props.clear()
        if scopes is not None:
            node.metadata_props[NAME_SCOPES] = scopes
        node.doc_string = None
        values += node.outputs
    for value in values:
        value.metadata_props.clear()
