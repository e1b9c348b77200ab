"""PyTorch network -> clean ONNX graph: one input, one output, a dynamic batch, readable names."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d
from torch.overrides import TorchFunctionMode

from convlens.export.batch_norm import FoldedBatchNorm, folded_batch_norm
from convlens.export.clean_graph import clean_graph
from convlens.export.errors import ConversionError
from convlens.export.node_names import NAME_SCOPES, name_after_modules
from convlens.export.parity import torch_outputs

INPUT = "input"
OUTPUT = "logits"
BATCH, HEIGHT, WIDTH = "batch", "height", "width"
# What PyTorch's exporter has operators for, and what onnxruntime runs.
OPSETS = range(18, 24)
DEFAULT_OPSET = 20  # the first with Gelu
_OTHER_SIZE = 32  # pixels: what networks divide by


@dataclass(frozen=True)
class Conversion:
    """A graph, and how much of it there was before it was cleaned.

    Attributes:
        model: it passes onnx's checker in full mode.
        nodes_before: of the graph as PyTorch's exporter writes it.
        folded_batch_norm: what was folded into the convolutions.
    """

    model: onnx.ModelProto
    nodes_before: int
    folded_batch_norm: FoldedBatchNorm

    @property
    def nodes(self) -> int:
        """Of the clean graph."""
        return len(self.model.graph.node)


def to_onnx(
    network: nn.Module,
    input_shape: tuple[int, ...],
    *,
    opset: int = DEFAULT_OPSET,
    dynamic_size: bool = False,
) -> Conversion:
    """Convert a network to an ONNX model that onnx's checker passes in full mode.

    Args:
        network: takes one tensor and gives one; its BatchNorms are folded into the convolutions.
        input_shape: of one picture, without the batch.
        opset: one of `OPSETS`.
        dynamic_size: whether height and width stay open, which a network must allow: its pooling
            before the last layer must be global.

    Returns:
        A model with the input `input`, the output `logits` and a symbolic dimension `batch`; each
        node is named after its module and carries nothing of the machine that it was made on.

    Raises:
        ConversionError: PyTorch's exporter cannot follow the network, it does not allow a dynamic
            size, or the opset is not one of `OPSETS`.
    """
    require_opset(opset)
    symbols = {0: torch.export.Dim(BATCH)}
    if dynamic_size:
        require_any_size(network, input_shape)
        symbols |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    # A batch of one would be taken for a constant.
    example = torch.zeros(2, *input_shape)
    try:
        with _PoolingAsMean():
            program = torch.onnx.export(
                network.eval(),
                (example,),
                dynamo=True,
                dynamic_shapes=(symbols,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=opset,
                optimize=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ConversionError(
            f"PyTorch cannot export {type(network).__name__}: {reason}"
        ) from error
    assert program is not None
    nodes_before, stored_before = len(program.model.graph), _stored(program.model)
    model = clean_graph(program.model)
    name_after_modules(model)
    if dynamic_size:
        _name_spatial_dimensions(model)
    _forget_origins(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return Conversion(proto, nodes_before, folded_batch_norm(stored_before, _stored(model)))


def require_opset(opset: int) -> None:
    """Fail before minutes of work where there is no such opset.

    Raises:
        ConversionError: it is not one of `OPSETS`.
    """
    if opset not in OPSETS:
        raise ConversionError(f"opset {opset} is not one of {OPSETS[0]} to {OPSETS[-1]}")


def require_any_size(network: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Fail before minutes of work where the height and width of the pictures must be what they are.

    Raises:
        ConversionError: the network does not take another size, or pools to a fixed one.
    """
    name = type(network).__name__
    for path, layer in network.named_modules():
        if isinstance(layer, nn.AdaptiveAvgPool2d) and not _is_global(layer.output_size):
            raise ConversionError(
                f"{name} does not allow a dynamic size: its layer {path} pools to "
                f"{layer.output_size}"
            )
    try:
        torch_outputs(network.eval(), np.zeros((1, *other_size(input_shape)), dtype=np.float32))
    except ConversionError as error:
        raise ConversionError(f"{name} does not allow a dynamic size: {error}") from error


def other_size(input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a larger picture, at which a dynamic size is tried out."""
    channels, height, width = input_shape
    return channels, height + _OTHER_SIZE, width + 2 * _OTHER_SIZE


class _PoolingAsMean(TorchFunctionMode):
    """Traces global average pooling as the mean that it is.

    PyTorch decomposes it into a strided view where the map's channels are the last axis in memory,
    as in ConvNeXt, and the exporter spells that view out by Shape, Range and Gather.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is adaptive_avg_pool2d:
            maps, output_size = (*args, *(kwargs or {}).values())
            if _is_global(output_size):
                return maps.mean(dim=(-2, -1), keepdim=True)
        return func(*args, **(kwargs or {}))


def _is_global(output_size: Any) -> bool:
    return output_size in (1, (1, 1), [1, 1])


def _stored(model: ir.Model) -> Mapping[str, int]:
    """How many numbers each initializer has."""
    return {
        name: math.prod(tensor.shape.numpy())
        for name, value in model.graph.initializers.items()
        if (tensor := value.const_value) is not None
    }


def _name_spatial_dimensions(model: ir.Model) -> None:
    """Call the input's open dimensions height and width, and forget the sizes derived from them."""
    (picture,) = model.graph.inputs
    assert picture.shape is not None
    picture.shape = ir.Shape([BATCH, picture.shape[1], HEIGHT, WIDTH])
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None


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
