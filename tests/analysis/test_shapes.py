from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from convlens.analysis import analyze
from convlens.analysis.errors import InputSizeError
from tests.analysis.graphs import node, save_graph, weight


def test_a_symbolic_batch_keeps_its_name_through_a_reshape(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [
            node("Conv", "x w", "conv"),
            node("Reshape", "conv shape", "flat"),
            node("MatMul", "flat fc", "y"),
        ],
        {
            "w": weight(4, 1, 3, 3),
            "shape": np.array([-1, 3600], dtype=np.int64),
            "fc": weight(3600, 10),
        },
        input_shape=("n", 1, 32, 32),
    )

    report = analyze(path)

    assert report.layer("flat").outputs[0].shape == ("n", 3600)
    assert report.outputs[0].shape == ("n", 10)
    assert report.symbols == ("n",)


def test_symbolic_height_and_width_stay_symbolic(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [node("Relu", "x", "relu"), node("Conv", "relu w", "conv", strides=[2, 2])],
        {"w": weight(4, 3, 3, 3)},
        input_shape=(1, 3, "h", "w"),
    )

    report = analyze(path)

    assert report.layer("relu").outputs[0].shape == (1, 3, "h", "w")
    assert report.layer("conv").receptive_field.stride == (2, 2)
    assert analyze(path, input_size=(9, 7)).outputs[0].shape == (1, 4, 4, 3)


def test_a_fixed_size_is_replaced_throughout(tmp_path: Path, lenet5: Path) -> None:
    inferred = tmp_path / "inferred.onnx"
    onnx.save_model(onnx.shape_inference.infer_shapes(onnx.load(lenet5)), inferred)

    report = analyze(inferred, batch=5, input_size=(32, 32))

    assert report.layer("conv2").outputs[0].shape == (5, 16, 10, 10)


def test_a_picture_too_small_for_a_window_is_refused(lenet5: Path) -> None:
    with pytest.raises(InputSizeError, match="conv2: the 2x2 map"):
        analyze(lenet5, input_size=(8, 8))


def test_a_picture_that_does_not_fit_the_fully_connected_layer_is_refused(lenet5: Path) -> None:
    with pytest.raises(InputSizeError, match="fc1: 1,080 values reach its 120 weights"):
        analyze(lenet5, input_size=(40, 40))


def test_a_picture_that_does_not_fit_a_constant_reshape_is_refused(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [node("Relu", "x", "relu"), node("Reshape", "relu shape", "y")],
        {"shape": np.array([-1, 1024], dtype=np.int64)},
    )
    with pytest.raises(InputSizeError, match=r"y: \[2,1,5,5\] cannot be reshaped to \[-1,1024\]"):
        analyze(path, batch=2, input_size=(5, 5))


@pytest.mark.parametrize("target", [[1, 400], [0, 400]])
def test_a_reshape_that_would_drop_values_is_refused(tmp_path: Path, target: list[int]) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [node("Reshape", "x shape", "y")],
        {"shape": np.array(target, dtype=np.int64)},
        input_shape=(1, 16, 5, 5),
    )

    assert analyze(path).outputs[0].shape == (1, 400)
    with pytest.raises(InputSizeError, match=r"y: \[1,16,10,10\] cannot be reshaped"):
        analyze(path, input_size=(10, 10))


def test_a_size_for_a_network_without_pictures_is_refused(tmp_path: Path) -> None:
    path = save_graph(tmp_path / "mlp.onnx", [node("Relu", "x", "y")], {}, input_shape=("n", 8))
    with pytest.raises(InputSizeError, match=r"no input has 2 spatial axes .* inputs are \[n,8\]"):
        analyze(path, input_size=(8, 8))


def test_a_disagreement_with_onnx_is_reported(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "conv"), node("Relu", "conv", "y")]
    path = save_graph(tmp_path / "model.onnx", nodes, {"w": weight(1, 1, 3, 3)})
    model = onnx.load(path)
    # onnx's inference believes what the file declares.
    wrong = helper.make_tensor_value_info("conv", TensorProto.FLOAT, ["batch", 1, 31, 31])
    model.graph.value_info.append(wrong)
    onnx.save_model(model, path)

    report = analyze(path)

    assert report.notes == (
        "conv: onnx infers the output shape [batch,1,31,31], the formula gives [batch,1,30,30]",
    )
    assert [layer.status for layer in report.layers] == ["partial", "exact"]


def test_branches_that_do_not_fit_at_another_size_are_refused(tmp_path: Path) -> None:
    nodes = [
        node("Reshape", "x windows", "cut"),
        node("Reshape", "cut map", "whole"),
        node("Add", "x whole", "y"),
    ]
    constants = {"windows": np.array([-1, 2, 4, 2, 4]), "map": np.array([-1, 1, 8, 8])}
    path = save_graph(tmp_path / "m.onnx", nodes, constants, ("batch", 1, 8, 8))

    assert analyze(path).outputs[0].shape == ("batch", 1, 8, 8)
    with pytest.raises(InputSizeError, match=r"y: \[batch,1,16,16\] and \[4\*batch,1,8,8\] do not"):
        analyze(path, input_size=(16, 16))


def test_a_picture_of_which_a_reshape_makes_several_rows_is_noted(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [node("Reshape", "x shape", "flat"), node("MatMul", "flat fc", "y")],
        {"shape": np.array([-1, 400], dtype=np.int64), "fc": weight(400, 10)},
        input_shape=("n", 16, 5, 5),
    )

    assert analyze(path, input_size=(5, 5)).notes == ()
    report = analyze(path, input_size=(10, 10))
    assert report.outputs[0].shape == ("4*n", 10)
    assert report.notes == (
        "flat takes 400 values a picture and is given 1,600: each picture becomes 4 rows",
    )
