"""fp32 -> int8: static quantisation, written as pairs of QuantizeLinear and DequantizeLinear."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import quantization

from convlens.export.errors import PrecisionError

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# onnxruntime advises, in the log, to clean the graph first unless this says that it is clean.
_CLEAN = ("onnx.quant.pre_process", "onnxruntime.quant")


def to_int8(
    model: onnx.ModelProto, calibration: NDArray[np.float32], kept: tuple[str, ...]
) -> onnx.ModelProto:
    """Quantise a model's weights, a scale a channel, and the values between its layers.

    Weights are signed and symmetric, values unsigned with a zero point, in the ranges that they
    take on the calibration pictures.

    Args:
        model: in fp32; left as it is.
        calibration: (count, channels, height, width).
        kept: the names of nodes to leave in fp32.

    Returns:
        A model with the same inputs and outputs that passes onnx's checker in full mode.
    """
    source = onnx.ModelProto()
    source.CopyFrom(model)
    source.metadata_props.add(key=_CLEAN[0], value=_CLEAN[1])
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            source,
            target,
            _Reader(model.graph.input[0].name, calibration),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=list(kept),
            extra_options={"WeightSymmetric": True},
        )
        quantised = onnx.load(target)
    del quantised.metadata_props[:]
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def outer_layers(model: onnx.ModelProto) -> tuple[str, str]:
    """The names of the first and the last node with weights, which lose most by rounding.

    Raises:
        PrecisionError: there is none.
    """
    names = [node.name for node in model.graph.node if node.op_type in _WEIGHTED]
    if not names:
        raise PrecisionError("the graph has no layer with weights to quantise")
    return names[0], names[-1]


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # it has no types
    """Hands the pictures out one by one."""

    def __init__(self, name: str, pictures: NDArray[np.float32]) -> None:
        self._batches: Iterator[dict[str, NDArray[np.float32]]] = (
            {name: picture[np.newaxis]} for picture in pictures
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._batches, None)
