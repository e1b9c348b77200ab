from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from convlens.export.errors import PrecisionError
from convlens.export.quantisation import Quantiser
from convlens.export.rounding import channel_shifts, error_shares

_RNG = np.random.default_rng(0)
_PICTURES = _RNG.uniform(0.0, 1.0, (8, 3, 8, 8)).astype(np.float32)


def _model(spread: float = 0.0) -> onnx.ModelProto:
    """Two convolutions; of the first one's weights, one a channel is larger by the spread."""
    weights = _RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
    weights[:, 0, 0, 0] += spread
    tensors: dict[str, NDArray[Any]] = {
        "first.weight": weights,
        "first.bias": np.zeros(4, np.float32),
        "second.weight": _RNG.normal(size=(5, 4, 6, 6)).astype(np.float32),
        "second.bias": np.zeros(5, np.float32),
        "shape": np.array([-1, 5], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["input", "first.weight", "first.bias"], ["maps"], "first"),
        helper.make_node("Conv", ["maps", "second.weight", "second.bias"], ["map"], "second"),
        helper.make_node("Reshape", ["map", "shape"], ["logits"], "reshape"),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _operands(model: onnx.ModelProto) -> dict[str, set[str]]:
    """By convolution: the operators that its inputs come from."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    return {
        node.name: {makers.get(name, "") for name in node.input}
        for node in model.graph.node
        if node.op_type == "Conv"
    }


def test_what_rounding_shifts_a_channel_by_is_taken_off_its_bias() -> None:
    model = _model(spread=200.0)
    quantised = Quantiser(model, _PICTURES).quantised(kept=())
    shift = channel_shifts(model, quantised, _PICTURES)["first"]
    assert np.abs(shift).max() < 0.05  # without: more than 1


def test_a_kept_layer_has_its_fp32_weights_and_bias() -> None:
    model = _model()
    quantised = Quantiser(model, _PICTURES).quantised(kept=("first",))
    operands = _operands(quantised)
    assert operands["second"] == {"DequantizeLinear"}
    assert "DequantizeLinear" not in operands["first"]
    own = {tensor.name: tensor for tensor in quantised.graph.initializer}
    for tensor in model.graph.initializer[:2]:
        assert np.array_equal(
            numpy_helper.to_array(own[tensor.name]), numpy_helper.to_array(tensor)
        )


def test_onnxruntime_computes_a_kept_layer_in_fp32(tmp_path: Path) -> None:
    """What it reads and what reads it are quantised: left alone, the runtime would quantise it."""
    quantised = Quantiser(_model(), _PICTURES).quantised(kept=("second",))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    ort.InferenceSession(quantised.SerializeToString(), options, ["CPUExecutionProvider"])
    loaded = [node.op_type for node in onnx.load(tmp_path / "loaded.onnx").graph.node]
    assert loaded.count("QLinearConv") == 1
    assert loaded.count("Conv") == 1


def test_the_layer_whose_weights_round_worst_has_the_largest_share_of_the_error() -> None:
    model = _model(spread=200.0)
    quantised = Quantiser(model, _PICTURES).quantised(kept=())
    reported: list[tuple[int, int]] = []
    shares = error_shares(model, quantised, _PICTURES, lambda *step: reported.append(step))
    assert list(shares) == ["first", "second"]
    assert sum(shares.values()) == pytest.approx(1.0)
    assert reported == [(0, 2), (1, 2), (2, 2)]


def test_a_graph_without_weights_is_refused() -> None:
    model = _model()
    del model.graph.node[:2]
    model.graph.node[0].input[0] = "input"
    with pytest.raises(PrecisionError, match="no layer with weights"):
        Quantiser(model, _PICTURES)
