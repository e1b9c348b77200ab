"""What quantising does to each layer by itself, and what that does to the outputs."""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from convlens.export.architecture import Progress
from convlens.export.parity import open_session, outputs_of

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
    outputs = [output for node in nodes for output in (node.output[0], node.output[0] + _ROUNDED)]
    graph = _side_by_side(model, quantised, nodes)
    del graph.graph.output[:]
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    probe = open_session(graph.SerializeToString())
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


def error_shares(
    model: onnx.ModelProto,
    quantised: onnx.ModelProto,
    pictures: NDArray[np.float32],
    progress: Progress,
) -> Mapping[str, float]:
    """Find the layers that int8 hurts most: each alone in int8, what becomes of the outputs?

    Args:
        model: in fp32.
        quantised: the same, by onnxruntime's quantiser, which keeps the names.
        pictures: (count, channels, height, width).
        progress: called with (layers done, layers in all).

    Returns:
        By the names of the nodes with weights, the worst first: the mean squared error that the
        layer causes in the outputs, as a share of the sum over all layers.
    """
    nodes = weighted_nodes(model)
    expected = outputs_of(model.SerializeToString(), pictures)
    errors: dict[str, float] = {}
    for done, node in enumerate(nodes):
        progress(done, len(nodes))
        actual = outputs_of(_one_rounded(model, quantised, node).SerializeToString(), pictures)
        errors[node.name] = float(np.mean((actual - expected) ** 2))
    progress(len(nodes), len(nodes))
    total = sum(errors.values()) or 1.0
    worst_first = sorted(errors, key=errors.__getitem__, reverse=True)
    return {name: errors[name] / total for name in worst_first}


def _one_rounded(
    model: onnx.ModelProto, quantised: onnx.ModelProto, node: onnx.NodeProto
) -> onnx.ModelProto:
    """The fp32 model with that layer in int8."""
    probe = _side_by_side(model, quantised, [node])
    exact = node.output[0]
    for reader in probe.graph.node:
        reader.input[:] = [name + _ROUNDED if name == exact else name for name in reader.input]
    for output in probe.graph.output:
        if output.name == exact:
            output.name += _ROUNDED
    return probe


def _side_by_side(
    model: onnx.ModelProto, quantised: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]
) -> onnx.ModelProto:
    """The fp32 model with a copy in int8 beside each of the nodes, fed with the same values."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    graph = probe.graph
    makers = {value: node for node in quantised.graph.node for value in node.output}
    layers = {node.name: node for node in quantised.graph.node}
    copied: set[str] = set()

    def copy(node: onnx.NodeProto, output: str) -> None:
        inputs = [copied_value(name) for name in node.input]
        twin = graph.node.add()
        twin.CopyFrom(node)
        twin.name = node.name + _ROUNDED
        twin.input[:] = inputs
        twin.output[:] = [output + _ROUNDED]

    def copied_value(name: str) -> str:
        # A DequantizeLinear may give a bias back under its own name.
        maker = makers.get(name)
        if maker is None or maker.op_type not in _QUANTISING:
            return name
        if name not in copied:
            copied.add(name)
            copy(maker, name)
        return name + _ROUNDED

    for node in nodes:
        copy(layers[node.name], node.output[0])
    known = {tensor.name for tensor in graph.initializer}
    used = {name for node in graph.node for name in node.input} - known
    graph.initializer.extend(
        tensor for tensor in quantised.graph.initializer if tensor.name in used
    )
    return probe
