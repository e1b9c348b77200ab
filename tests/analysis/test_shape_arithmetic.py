"""Shapes that a graph computes, compared with those that onnxruntime makes."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from torch import Tensor, nn
from torch.nn import functional

from convlens.analysis import analyze
from convlens.analysis.bounds import evaluate
from convlens.analysis.dimensions import to_count
from tests.analysis.graphs import node, save_graph, weight

HEIGHT, WIDTH = 37, 50


def _flattened(x: Tensor) -> Tensor:
    return x.view(x.size(0), -1, x.size(3)).transpose(1, 2)


def _resized_to_another(x: Tensor) -> Tensor:
    small = functional.max_pool2d(x, 3, stride=2, ceil_mode=True)
    return functional.interpolate(small, x.shape[-2:], mode="bilinear") + x


def _scaled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=1.5, recompute_scale_factor=True)


def _shuffled(x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape)


def _windows(x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    x = functional.pad(x, (0, (8 - width % 8) % 8, 0, (8 - height % 8) % 8))
    batch, channels, height, width = x.shape
    x = x.view(batch, channels, height // 8, 8, width // 8, 8)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, 64, channels)


def _positions(x: Tensor) -> Tensor:
    rows = torch.arange(x.shape[2]).view(1, 1, -1, 1)
    return torch.cat([x, rows.expand(x.shape[0], 1, -1, x.shape[3]).to(x.dtype)], dim=1)


def _halves(x: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=3)
    return torch.cat([left[..., 1:], right[..., : left.shape[3] - 1][..., ::2]], dim=3)


def _tiled(x: Tensor) -> Tensor:
    return x.repeat(1, 2, 1, 1)[:, :, 1:-1:2, -20:]


class _Network(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


@pytest.mark.parametrize(
    "function",
    [
        _flattened, _halves, _positions, _resized_to_another, _scaled, _shuffled, _tiled, _windows,
    ],
)  # fmt: skip
def test_computed_shapes_are_those_of_onnxruntime(
    function: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The older exporter leaves the most shape arithmetic in the graph.
        torch.onnx.export(
            _Network(function).eval(),
            (torch.zeros(2, 3, HEIGHT, WIDTH),),
            str(path),
            input_names=["x"],
            dynamic_axes={"x": {0: "batch", 2: "height", 3: "width"}},
            opset_version=17,
            dynamo=False,
        )

    # Formulas that are put together before the sizes are known, and the shapes at one size.
    formulas = {t.name: t.shape for layer in analyze(path).layers for t in layer.outputs}
    known = {
        t.name: t.shape
        for layer in analyze(path, batch=3, input_size=(45, 61)).layers
        for t in layer.outputs
    }

    assert known == _measured(path, (3, 3, 45, 61))
    sizes = {"batch": 3, "height": 45, "width": 61}
    assert known == {
        name: tuple(evaluate(to_count(dim), sizes) for dim in shape or ())
        for name, shape in formulas.items()
    }


def _measured(path: Path, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor that onnxruntime makes."""
    model = onnx.load(path)
    names = [
        name for node in model.graph.node if node.op_type != "Constant" for name in node.output
    ]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs = session.run(names, {"x": np.zeros(shape, dtype=np.float32)})
    return {name: output.shape for name, output in zip(names, outputs, strict=True)}


@pytest.mark.parametrize("rounding", ["Ceil", "Floor"])
def test_sizes_cast_to_floats_are_divided_as_floats(tmp_path: Path, rounding: str) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [
            node("Shape", "x", "sizes"),
            node("Cast", "sizes", "dividend", to=1),
            node("Cast", "twos", "divisor", to=1),
            node("Div", "dividend divisor", "halves"),
            node(rounding, "halves", "rounded"),
            node("Cast", "rounded", "shape", to=7),
            node("ConstantOfShape", "shape", "y"),
        ],
        {"twos": np.array([2, 2, 2, 2])},
        input_shape=(1, 3, "height", "width"),
    )

    known = analyze(path, input_size=(45, 61)).outputs[0].shape
    formulas = analyze(path).outputs[0].shape or ()

    assert known == _measured(path, (1, 3, 45, 61))["y"]
    sizes = {"height": 45, "width": 61}
    assert known == tuple(evaluate(to_count(dim), sizes) for dim in formulas)


def test_a_scale_is_applied_in_single_precision(tmp_path: Path) -> None:
    scales = np.array([1, 1, 1.3, 0.7], np.float32)
    resize = helper.make_node("Resize", ["x", "", "scales"], ["y"], name="y")
    path = save_graph(tmp_path / "model.onnx", [resize], {"scales": scales}, (1, 3, 90, 90))

    assert analyze(path).outputs[0].shape == _measured(path, (1, 3, 90, 90))["y"] == (1, 3, 116, 63)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_a_padded_conv_transpose_has_the_size_that_onnxruntime_makes(
    tmp_path: Path, auto_pad: str
) -> None:
    transposed = node("ConvTranspose", "x w", "y", strides=[3, 2], auto_pad=auto_pad)
    path = save_graph(
        tmp_path / "model.onnx", [transposed], {"w": weight(4, 4, 1, 3)}, (1, 4, 7, 8)
    )

    assert analyze(path).outputs[0].shape == _measured(path, (1, 4, 7, 8))["y"]


def test_a_reduction_over_no_axes_leaves_sizes_as_they_are(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [
            node("Shape", "x", "sizes"),
            node("ReduceSum", "sizes", "same", noop_with_empty_axes=1),
            node("ConstantOfShape", "same", "y"),
        ],
        {},
        input_shape=(2, 3, 4),
    )

    assert analyze(path).outputs[0].shape == _measured(path, (2, 3, 4))["y"] == (2, 3, 4)


@pytest.mark.parametrize(
    ("operator", "left", "right", "dtype"),
    [
        ("Add", 200, 100, "uint8"),
        ("Sub", 3, 5, "uint8"),
        ("Mul", 100, 100, "int8"),
        ("Mul", 70_001, 70_000, "int32"),
        ("Mod", -7, 3, "int64"),
        ("fmod", -7, 3, "int64"),
        ("fmod", 7, -3, "int64"),
    ],
)
def test_integers_are_computed_as_their_type_holds_them(
    operator: str, left: int, right: int, dtype: str, tmp_path: Path
) -> None:
    attributes = {"fmod": 1} if operator == "fmod" else {}
    computed = node(operator.replace("fmod", "Mod"), "left right", "result", **attributes)
    path = save_graph(
        tmp_path / "model.onnx",
        [
            computed,
            node("Cast", "result", "long", to=onnx.TensorProto.INT64),
            # Each result has a size of its own, and none is too long to make.
            node("Mod", "long thousand", "short", fmod=1),
            node("Add", "short thousand", "size"),
            node("ConstantOfShape", "size", "y"),
        ],
        {
            "left": np.array([left], dtype=dtype),
            "right": np.array([right], dtype=dtype),
            "thousand": np.array([1000]),
        },
    )
    (found,) = analyze(path).outputs
    assert found.shape == _measured(path, (1, 1, 32, 32))["y"]


@pytest.mark.parametrize(("start", "end"), [(-9, -(2**63)), (-4, -9), (9, 0), (-1, -5), (-9, 9)])
@pytest.mark.parametrize("stride", [-1, -3])
def test_a_backward_slice_begins_at_the_first_entry_at_the_latest(
    start: int, end: int, stride: int, tmp_path: Path
) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [
            node("Slice", "x start end axis stride", "cut"),
            node("Shape", "x", "lengths"),
            node("Slice", "lengths start end first stride", "sizes"),
            node("ConstantOfShape", "sizes", "y"),
        ],
        {
            "start": np.array([start]),
            "end": np.array([end]),
            "axis": np.array([2]),
            "first": np.array([0]),
            "stride": np.array([stride]),
        },
        (2, 3, 4, 5),
    )
    found = {t.name: t.shape for layer in analyze(path).layers for t in layer.outputs}
    assert found == _measured(path, (2, 3, 4, 5))
