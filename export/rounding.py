"""What quantising does to each layer by itself: how far its channels shift on average."""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from convlens.export.parity import open_session

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_QUANTISING = frozenset({"QuantizeLinear", "DequantizeLinear"})
_ROUNDED = ".rounded"


def weighted_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The convolutions and matrix products with weights that the file stores."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type in _WEIGHTED and len(node.input) > 1 and node.input[1] in stored
    ]


def channel_shifts(
    model: onnx.ModelProto, quantised: onnx.ModelProto, pictures: NDArray[np.float32]
) -> Mapping[str, NDArray[np.float64]]:
    """Compare each layer in int8 with itself in fp32, both on what fp32 hands to it.

    Args:
        model: in fp32.
        quantised: the same, by onnxruntime's quantiser, which keeps the names.
        pictures: (count, channels, height, width).

    Returns:
        By the names of the nodes with weights: (channels,), how much larger the rounded outputs
        are, on average over pictures and positions.
    """
    nodes = weighted_nodes(model)
    probe = open_session(_side_by_side(model, quantised).SerializeToString())
    outputs = [output for node in nodes for output in (node.output[0], node.output[0] + _ROUNDED)]
    sums: dict[str, NDArray[np.float64] | float] = dict.fromkeys((node.name for node in nodes), 0.0)
    for picture in pictures:
        values = iter(probe.run(outputs, {model.graph.input[0].name: picture[np.newaxis]}))
        for node in nodes:
            exact, rounded = next(values), next(values)
            channel_axis = 1 if node.op_type.startswith("Conv") else exact.ndim - 1
            others = tuple(axis for axis in range(exact.ndim) if axis != channel_axis)
            shift = np.mean(rounded - exact, axis=others, dtype=np.float64)
            sums[node.name] = sums[node.name] + shift
    return {name: np.asarray(total) / len(pictures) for name, total in sums.items()}


def _side_by_side(model: onnx.ModelProto, quantised: onnx.ModelProto) -> onnx.ModelProto:
    """The fp32 model with a copy of each layer in int8 beside it, fed with the same values."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    graph = probe.graph
    del graph.output[:]
    own = {value for node in graph.node for value in (*node.input, *node.output)}
    constants = {tensor.name: tensor for tensor in quantised.graph.initializer}
    known = {*own, *constants}
    weighted = {node.name: node.output[0] for node in weighted_nodes(model)}
    copied: set[str] = set()  # a DequantizeLinear may give a bias back under its own name
    for node in quantised.graph.node:
        is_layer = node.name in weighted
        if not is_layer and (node.op_type not in _QUANTISING or node.input[0] not in known):
            continue
        outputs = [weighted[node.name]] if is_layer else list(node.output)
        inputs = [name + _ROUNDED if name in copied else name for name in node.input]
        copy = graph.node.add()
        copy.CopyFrom(node)
        copy.name = node.name + _ROUNDED
        copy.input[:] = inputs
        copy.output[:] = [name + _ROUNDED for name in outputs]
        copied.update(outputs)
        if is_layer:
            for name in (*outputs, *copy.output):
                graph.output.append(onnx.ValueInfoProto(name=name))
        else:
            known.update(outputs)
    used = {name for node in graph.node for name in node.input} - own
    graph.initializer.extend(constants[name] for name in sorted(used & constants.keys()))
    return probe
