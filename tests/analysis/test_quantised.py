"""Quantised networks have the parameters and the MACs of their float twins."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    quant_pre_process,
    quantize_dynamic,
    quantize_static,
)

from convlens.analysis import Report, analyze
from tests.analysis.graphs import node, save_graph

RANDOM = np.random.default_rng(0)


def _random(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.asarray(RANDOM.standard_normal(shape), dtype=np.float32)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    nodes = [
        node("Conv", "x w1 b1", "conv1", pads=[1, 1, 1, 1]),
        node("Relu", "conv1", "relu1"),
        node("Conv", "relu1 w2 b2", "conv2", group=4, strides=[2, 2]),
        node("Relu", "conv2", "relu2"),
        node("GlobalAveragePool", "relu2", "pool"),
        node("Flatten", "pool", "flat"),
        node("MatMul", "flat w3", "matmul"),
        node("Add", "matmul b3", "y"),
    ]
    weights = {
        "w1": _random(8, 3, 3, 3),
        "b1": _random(8),
        "w2": _random(8, 2, 3, 3),
        "b2": _random(8),
        "w3": _random(8, 10),
        "b3": _random(10),
    }
    path = save_graph(
        tmp_path_factory.mktemp("float") / "float.onnx", nodes, weights, (1, 3, 16, 16)
    )
    prepared = path.with_name("prepared.onnx")
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    return prepared


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self._pictures: Iterator[dict[str, object]] = iter([{"x": _random(1, 3, 16, 16)}] * 2)

    def get_next(self) -> dict[str, object] | None:
        return next(self._pictures, None)


def _static(form: QuantFormat) -> Callable[[Path, Path], None]:
    return lambda path, output: quantize_static(path, output, _Pictures(), form)


def _analyzed(path: Path, tmp_path: Path, quantise: Callable[[Path, Path], None]) -> Report:
    output = tmp_path / "quantised.onnx"
    root = logging.getLogger()
    level, root.level = root.level, logging.ERROR
    quantise(path, output)
    root.setLevel(level)
    return analyze(output)


@pytest.mark.parametrize(
    ("quantise", "op_type"),
    [
        (_static(QuantFormat.QDQ), "DequantizeLinear"),
        (_static(QuantFormat.QOperator), "QLinearConv"),
        (quantize_dynamic, "ConvInteger"),
    ],
)
def test_a_quantised_network_counts_as_its_float_twin(
    network: Path, tmp_path: Path, quantise: Callable[[Path, Path], None], op_type: str
) -> None:
    twin = analyze(network)
    report = _analyzed(network, tmp_path, quantise)

    assert op_type in {layer.op_type for layer in report.layers}
    assert all(t.shape is not None for layer in report.layers for t in layer.outputs)
    assert report.totals.learnable == twin.totals.learnable
    assert report.totals.macs == twin.totals.macs
    assert report.totals.weight_bytes < twin.totals.weight_bytes / 2


_PAIR = ["x", "s", "z"]


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes"),
    [
        ("QLinearConcat", ["s", "z", *_PAIR, *_PAIR], {"axis": 1}),
        ("QLinearAveragePool", [*_PAIR, "s", "z"], {"kernel_shape": [2, 2], "ceil_mode": 1}),
        ("MatMulIntegerToFloat", ["x", "x", "s", "s"], {}),
    ],
)
def test_an_operator_of_onnxruntimes_own_has_the_shape_and_type_of_a_run(
    tmp_path: Path, op_type: str, inputs: list[str], attributes: dict[str, Any]
) -> None:
    made = helper.make_node(op_type, inputs, ["made"], domain="com.microsoft", **attributes)
    graph = helper.make_graph(
        [made, helper.make_node("Identity", ["made"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (1, 3, 7, 7))],
        [onnx.ValueInfoProto(name="y")],
        [
            numpy_helper.from_array(np.array(1, np.float32), "s"),
            numpy_helper.from_array(np.array(0, np.uint8), "z"),
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    path = tmp_path / "model.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (measured,) = session.run(None, {"x": np.ones((1, 3, 7, 7), np.uint8)})
    (output,) = analyze(path).outputs

    assert (output.shape, output.dtype) == (measured.shape, str(measured.dtype))


@pytest.mark.parametrize("scaled", ["by one number", "by channel", "not at all"])
def test_integers_behind_a_cast_are_weights_and_their_scales_are_not(
    scaled: str, tmp_path: Path
) -> None:
    steps = [node("Cast", "stored", "cast", to=TensorProto.FLOAT)]
    if scaled != "not at all":
        steps += [node("Sub", "cast zero", "shifted"), node("Mul", "shifted scale", "w")]
    scale = _random() if scaled == "by one number" else _random(4, 1, 1, 1)
    path = save_graph(
        tmp_path / "model.onnx",
        [*steps, node("Conv", f"x {steps[-1].output[0]}", "y")],
        {"stored": np.ones((4, 1, 3, 3), dtype=np.int8), "scale": scale, "zero": scale},
    )
    totals = analyze(path).totals
    assert (totals.learnable, totals.weight_bytes) == (36, 36)


def test_integers_that_mask_are_no_weights(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [node("Cast", "mask", "cast", to=TensorProto.FLOAT), node("Mul", "x cast", "y")],
        {"mask": np.ones((32, 32), dtype=np.uint8)},
    )
    assert analyze(path).totals.parameters == 0
