"""fp32 -> int8: static quantisation, written as pairs of QuantizeLinear and DequantizeLinear."""

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime import quantization

from convlens.export.errors import PrecisionError, WriteError
from convlens.export.rounding import channel_shifts, weighted_nodes

# onnxruntime advises, in the log, to clean the graph first unless this says that it is clean.
_CLEAN = ("onnx.quant.pre_process", "onnxruntime.quant")
_QUANTISED_ON_LOADING = frozenset({"Conv", "ConvTranspose", "Gemm"})


class Quantiser:
    """Quantises a model, with these or those of its layers kept in fp32.

    Weights become signed and symmetric, a scale a channel; the values between the layers unsigned
    with a zero point, in the ranges that they take on the calibration pictures. What the rounding
    shifts a channel by on average is taken off its bias (bias correction: Nagel et al., 2019,
    https://arxiv.org/abs/1906.04721, section 4.2, measured instead of derived).

    Args:
        model: in fp32; left as it is.
        calibration: (count, channels, height, width).

    Raises:
        PrecisionError: the model has no layer with weights.
        WriteError: the quantiser's temporary files cannot be written.
    """

    def __init__(self, model: onnx.ModelProto, calibration: NDArray[np.float32]) -> None:
        if not weighted_nodes(model):
            raise PrecisionError("the graph has no layer with weights to quantise")
        self._model = model
        self._calibration = calibration
        with tempfile.TemporaryDirectory() as folder:
            ranges = Path(folder) / "ranges.json"
            plain = self._quantise(model, ranges, ())
            self._ranges = ranges.read_bytes()
        self._shifts = channel_shifts(model, plain, calibration)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the nodes with weights, in the order of the graph."""
        return tuple(self._shifts)

    def quantised(self, kept: Collection[str]) -> onnx.ModelProto:
        """The model in int8.

        Args:
            kept: the names of nodes to leave in fp32.

        Returns:
            A model with the same inputs and outputs that passes onnx's checker in full mode.
        """
        corrected = onnx.ModelProto()
        corrected.CopyFrom(self._model)
        rounded = {name: shift for name, shift in self._shifts.items() if name not in kept}
        _correct_biases(corrected, rounded)
        with tempfile.TemporaryDirectory() as folder:
            ranges = Path(folder) / "ranges.json"
            ranges.write_bytes(self._ranges)
            quantised = self._quantise(corrected, ranges, kept)
        _protect(quantised, kept)
        onnx.checker.check_model(quantised, full_check=True)
        return quantised

    def _quantise(
        self, model: onnx.ModelProto, ranges: Path, kept: Collection[str]
    ) -> onnx.ModelProto:
        """Quantise in the ranges of that file, or find them and write it where there is none."""
        source = onnx.ModelProto()
        source.CopyFrom(model)
        source.metadata_props.add(key=_CLEAN[0], value=_CLEAN[1])
        target = ranges.with_name("int8.onnx")
        try:
            quantization.quantize_static(
                source,
                target,
                _Reader(model.graph.input[0].name, self._calibration),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                nodes_to_exclude=list(kept),
                extra_options={"WeightSymmetric": True},
                calibration_cache_path=ranges,
            )
        except OSError as error:
            raise WriteError(
                f"cannot write temporary files in {ranges.parent.parent}: {error.strerror or error}"
            ) from error
        quantised = onnx.load(target)
        del quantised.metadata_props[:]
        return quantised


def _correct_biases(model: onnx.ModelProto, shifts: Mapping[str, NDArray[np.float64]]) -> None:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in weighted_nodes(model):
        if node.name in shifts and len(node.input) > 2 and node.input[2] in tensors:
            bias = tensors[node.input[2]]
            values = numpy_helper.to_array(bias) - shifts[node.name]
            bias.CopyFrom(numpy_helper.from_array(values.astype(np.float32), bias.name))


def _protect(model: onnx.ModelProto, kept: Collection[str]) -> None:
    """Have the kept layers computed in fp32 indeed.

    onnxruntime quantises the weights of a layer that stands between a DequantizeLinear and a
    QuantizeLinear when it loads the file, with one scale for all channels, unless what the layer
    reads has a scale a channel (`WeightBiasQuantization`): the one scale is repeated.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    makers = {value: node for node in graph.node for value in node.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        maker = makers.get(node.input[0])
        is_kept = node.name in kept and node.op_type in _QUANTISED_ON_LOADING
        if is_kept and maker is not None and maker.op_type == "DequantizeLinear":
            reader = onnx.NodeProto()
            reader.CopyFrom(maker)
            reader.name = f"{node.name}.input"
            reader.output[:] = [reader.name]
            reader.attribute.append(onnx.helper.make_attribute("axis", 1))
            channels = _input_channels(node, tensors[node.input[1]].dims)
            for at in (1, 2):
                value = np.repeat(numpy_helper.to_array(tensors[maker.input[at]]), channels)
                reader.input[at] = f"{maker.input[at]}.{node.name}"
                graph.initializer.append(numpy_helper.from_array(value, reader.input[at]))
            nodes.append(reader)
            node.input[0] = reader.name
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _input_channels(node: onnx.NodeProto, weights: Sequence[int]) -> int:
    """How many channels a layer reads, by the shape of its weights."""
    attributes = {each.name: each.i for each in node.attribute}
    if node.op_type == "Conv":
        return weights[1] * attributes.get("group", 1)
    return weights[1] if attributes.get("transB") else weights[0]


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # it has no types
    """Hands the pictures out one by one."""

    def __init__(self, name: str, pictures: NDArray[np.float32]) -> None:
        self._batches: Iterator[dict[str, NDArray[np.float32]]] = (
            {name: picture[np.newaxis]} for picture in pictures
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._batches, None)
