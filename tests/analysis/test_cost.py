import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convlens.analysis import Layer, analyze
from convlens.analysis.cost import (
    conv_macs,
    conv_transpose_macs,
    einsum_macs,
    gemm_macs,
    matmul_macs,
)
from tests.analysis.graphs import node, save_graph, weight


def test_a_grouped_conv_counts_the_channels_of_its_group() -> None:
    assert conv_macs((8, 2, 3, 3), (1, 8, 10, 10)) == 8 * 100 * 2 * 9


def test_a_conv_transpose_counts_as_pytorch_does() -> None:
    layer = torch.nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, bias=False)
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(1, 4, 5, 5))

    assert 2 * conv_transpose_macs((1, 4, 5, 5), (4, 3, 3, 3)) == counter.get_total_flops()


def test_a_gemm_counts_m_n_k_however_it_is_stored() -> None:
    assert gemm_macs((2, 5), (2, 7)) == gemm_macs((5, 2), (2, 7), trans_a=True) == 2 * 5 * 7


def test_a_batched_matmul_counts_every_batch() -> None:
    assert matmul_macs((3, 4, 5), (3, 4, 6)) == 3 * 4 * 5 * 6


def test_flops_add_biases_and_the_arithmetic_between_products(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [
            node("Conv", "x w b", "conv"),
            node("Relu", "conv", "relu"),
            node("MaxPool", "relu", "pool", kernel_shape=[2, 2], strides=[2, 2]),
            node("Transpose", "pool", "y"),
        ],
        {"w": weight(4, 1, 3, 3), "b": weight(4)},
        input_shape=(1, 1, 12, 12),
    )

    layers = analyze(path).layers

    assert [layer.macs for layer in layers] == [4 * 100 * 9, 0, 0, 0]
    assert [layer.flops for layer in layers] == [
        2 * 4 * 100 * 9 + 4 * 100, 4 * 100, 4 * 25 * 4, 0,
    ]  # fmt: skip


def _layers(tmp_path: Path, *nodes: object, **weights: object) -> tuple[Layer, ...]:
    return analyze(save_graph(tmp_path / "model.onnx", nodes, weights)).layers  # type: ignore[arg-type]


def test_a_shared_weight_is_counted_at_its_first_user(tmp_path: Path) -> None:
    layers = _layers(
        tmp_path,
        node("Conv", "x w", "first", pads=[1, 1, 1, 1]),
        node("Conv", "first w", "second", pads=[1, 1, 1, 1]),
        w=weight(1, 1, 3, 3),
    )
    assert [layer.parameters.learnable for layer in layers] == [9, 0]


def test_running_means_and_variances_are_statistics(tmp_path: Path) -> None:
    (layer,) = _layers(
        tmp_path,
        node("BatchNormalization", "x scale shift mean var", "y"),
        **{name: weight(1) for name in ("scale", "shift", "mean", "var")},
    )
    assert (layer.parameters.learnable, layer.parameters.statistics) == (2, 2)
    assert layer.weight_bytes == 16


def test_a_weight_behind_a_transpose_belongs_to_the_matmul_that_uses_it(tmp_path: Path) -> None:
    layers = _layers(
        tmp_path,
        node("Transpose", "w", "wt", perm=[1, 0]),
        node("MatMul", "x wt", "y"),
        w=weight(10, 32),
    )
    assert [layer.parameters.learnable for layer in layers] == [0, 320]


def test_constants_that_steer_an_operator_are_no_parameters(tmp_path: Path) -> None:
    layers = _layers(
        tmp_path,
        node("Clip", "x low high", "clip"),
        node("Mul", "clip half", "mul"),
        node("Reshape", "mul shape", "y"),
        low=np.float32(0),
        high=np.float32(6),
        half=np.float32(0.5),
        shape=np.array([0, -1], dtype=np.int64),
    )
    assert [layer.parameters.stored for layer in layers] == [0, 0, 0]


def test_weights_are_measured_in_the_type_they_are_stored_in(tmp_path: Path) -> None:
    layers = _layers(
        tmp_path,
        node("Cast", "w", "w32", to=1),
        node("Conv", "x w32", "y"),
        w=weight(2, 1, 3, 3).astype(np.float16),
    )
    assert (layers[1].parameters.stored, layers[1].weight_bytes) == (18, 36)


@pytest.mark.parametrize(("batch", "expected"), [(None, 1), (4, 4)])
def test_the_peak_is_where_most_is_alive(tmp_path: Path, batch: int | None, expected: int) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [
            node("Conv", "x w", "wide"),  # x and wide are alive
            node("Relu", "wide", "relu"),  # wide and relu
            node("Conv", "relu v", "narrow"),
            node("Flatten", "narrow", "flat"),  # a view
            node("Relu", "flat", "y"),
        ],
        {"w": weight(8, 1, 1, 1), "v": weight(1, 8, 1, 1)},
        input_shape=("batch", 1, 10, 10),
    )
    report = analyze(path, batch=batch)

    assert report.totals.peak_activation_bytes == expected * 2 * 8 * 100 * 4


def test_a_residual_branch_stays_alive_until_it_is_added(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [
            node("Relu", "x", "a"),
            node("Relu", "a", "b"),
            node("Relu", "b", "c"),
            node("Add", "a c", "y"),
        ],
        {},
        input_shape=(1, 1, 10, 10),
    )
    # a, b and c; then a, c and y.
    assert analyze(path).totals.peak_activation_bytes == 3 * 400


@pytest.mark.parametrize(
    ("equation", "first", "second", "macs"),
    [
        ("bij,bjk->bik", (2, 3, 4), (2, 4, 5), 2 * 3 * 4 * 5),
        ("bhwij,hkc->bhwikc", (2, 3, 4, 5, 6), (3, 7, 8), 2 * 3 * 4 * 5 * 6 * 7 * 8),
        ("...ij,jk", (2, 3, 4), (4, 5), 2 * 3 * 4 * 5),
    ],
)
def test_an_einsum_counts_every_setting_of_its_labels(
    equation: str, first: tuple[int, ...], second: tuple[int, ...], macs: int
) -> None:
    assert einsum_macs(equation, [first, second]) == macs


def test_an_einsums_output_has_the_shape_that_numpy_gives_it(tmp_path: Path) -> None:
    equation = "...wi,wk->...ik"
    path = save_graph(
        tmp_path / "model.onnx",
        [node("Einsum", "x w", "y", equation=equation)],
        {"w": weight(8, 3)},
        input_shape=(2, 1, 8, 6),
    )
    (layer,) = analyze(path).layers

    assert layer.outputs[0].shape == (2, 1, 6, 3)
    assert layer.macs == 2 * 6 * 3 * 8
    assert layer.flops == 2 * layer.macs


def test_an_attention_counts_as_its_two_products_do(tmp_path: Path) -> None:
    heads, positions, size = 4, 64, 8
    x = torch.zeros(1, heads, positions, size)
    with FlopCounterMode(display=False) as counter:
        (x @ x.transpose(2, 3)) @ x
    path = save_graph(
        tmp_path / "model.onnx",
        [node("Attention", "x x x", "y")],
        {},
        input_shape=tuple(x.shape),
        opset=23,
    )
    (layer,) = analyze(path).layers

    assert layer.outputs[0].shape == tuple(x.shape)
    assert layer.macs is not None
    assert 2 * layer.macs == counter.get_total_flops()


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_convs_of_one_two_and_three_dimensions_count_as_pytorch_counts_them(
    spatial: int, tmp_path: Path
) -> None:
    size = (13, 11, 9)[:spatial]
    conv = torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d
    with FlopCounterMode(display=False) as counter:
        output = conv[spatial - 1](
            torch.zeros(2, 6, *size), torch.zeros(8, 3, *(3,) * spatial), None, 2, 2, 2, 2
        )
    path = save_graph(
        tmp_path / "model.onnx",
        [
            node(
                "Conv", "x w", "y", group=2, strides=[2] * spatial,
                dilations=[2] * spatial, pads=[2] * 2 * spatial,
            )
        ],
        {"w": weight(8, 3, *(3,) * spatial)},
        input_shape=(2, 6, *size),
    )  # fmt: skip
    (layer,) = analyze(path).layers

    assert layer.outputs[0].shape == tuple(output.shape)
    assert layer.macs is not None
    assert 2 * layer.macs == counter.get_total_flops()


def test_the_intensity_is_arithmetic_for_each_byte_that_moves(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [node("Conv", "x w", "y")],
        {"w": weight(4, 1, 3, 3)},
        (1, 1, 12, 12),
    )
    (layer,) = analyze(path).layers

    assert layer.arithmetic_intensity == pytest.approx(
        2 * 4 * 100 * 9 / (4 * (144 + 36 + 400)), abs=0.001
    )


def test_a_weight_that_is_stated_as_a_shape_and_one_value_counts(tmp_path: Path) -> None:
    layers = _layers(
        tmp_path,
        node("ConstantOfShape", "shape", "w"),
        node("Conv", "x w", "y"),
        shape=np.array([4, 1, 3, 3]),
    )
    assert (layers[1].parameters.learnable, layers[1].weight_bytes) == (36, 0)


def test_memory_inside_a_formula_is_that_of_the_peak(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [node("Conv", "x w", "wide"), node("Relu", "wide", "y")],
        {"w": weight(8, 1, 1, 1)},
        input_shape=(1, 1, 10, 10),
    )
    totals = analyze(path, symbolic=True).totals

    assert totals.formulas is not None
    assert totals.formulas.activation_bytes == "64*H*N*W"
    assert totals.formulas.macs == "8*H*N*W"


def test_a_fully_connected_layer_says_which_sizes_of_picture_it_takes(
    tmp_path: Path, lenet5: Path, resnet18: Path
) -> None:
    """A Reshape to rows of a fixed length does so too; one that keeps the channels does not."""
    nodes = [
        node("Conv", "x w", "map"),
        node("Reshape", "map rows", "flat"),
        node("Transpose", "map", "last", perm=[0, 2, 3, 1]),
        node("Reshape", "last pixels", "y"),
    ]
    constants = {"w": weight(2, 1, 1, 1), "rows": np.array([-1, 18]), "pixels": np.array([-1, 2])}
    path = save_graph(tmp_path / "m.onnx", nodes, constants, (1, 1, 3, 3), ("flat", "y"))

    assert analyze(path, symbolic=True).notes == (
        "flat takes 18 values a picture and is given 2*H*W: "
        "it works with those sizes of picture where the two are the same",
    )
    assert len(analyze(lenet5, symbolic=True).notes) == 1
    assert analyze(lenet5).notes == analyze(resnet18, symbolic=True).notes == ()


@pytest.mark.parametrize(
    ("attributes", "first", "second", "output"),
    [
        ({"transA": 1}, (5, 3), (5, 7), (3, 7)),
        ({"transB": 1}, (3, 1), (7, 1), (3, 7)),
        ({"transBatchA": 1}, (4, 2, 5), (2, 5, 7), (2, 4, 7)),
    ],
)
def test_a_product_that_transposes_its_operands_counts_what_it_joins(
    tmp_path: Path, attributes: dict[str, Any], first: Any, second: Any, output: Any
) -> None:
    product = helper.make_node(
        "FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft", **attributes
    )
    graph = helper.make_graph(
        [product],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, first)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight(*second), "w")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save_model(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (measured,) = session.run(None, {"x": weight(*first)})
    (layer,) = analyze(tmp_path / "model.onnx").layers

    assert layer.outputs[0].shape == measured.shape == output
    # Of ones, each output is the number of products that it adds up.
    assert layer.macs == measured.sum()


@pytest.mark.parametrize("dynamo", [True, False])
def test_a_batch_norm_without_scales_learns_nothing(tmp_path: Path, *, dynamo: bool) -> None:
    # As many channels as make the scales too long to be read.
    network = nn.Sequential(
        nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 1500, 1), nn.BatchNorm2d(1500, affine=False)
    )
    # What training leaves: statistics that are no longer ones and zeros.
    for batch_norm in (network[0], network[2]):
        nn.init.uniform_(batch_norm.running_mean, 1, 2)  # type: ignore[arg-type]
        nn.init.uniform_(batch_norm.running_var, 1, 2)  # type: ignore[arg-type]
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            nn.Sequential(network[0], nn.ReLU(), network[1], nn.ReLU(), network[2]).eval(),
            (torch.zeros(1, 4, 8, 8),),
            str(path),
            dynamo=dynamo,
        )

    totals = analyze(path).totals

    assert totals.learnable == 4 * 1500 + 1500
    assert totals.statistics == 2 * 4 + 2 * 1500


def test_a_tensor_that_is_scale_and_variance_is_a_scale(tmp_path: Path) -> None:
    # As exporters write a new network, where both are ones.
    (layer,) = _layers(
        tmp_path,
        node("BatchNormalization", "x ones zeros zeros ones", "y"),
        ones=weight(1),
        zeros=weight(1, value=0.0),
    )
    assert (layer.parameters.learnable, layer.parameters.statistics) == (2, 0)


def test_a_sparse_weight_counts_the_values_that_the_file_holds(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "model.onnx", [node("Conv", "x w", "y")], {"w": weight(4, 1, 3, 3)}
    )
    model = onnx.load(path)
    values = numpy_helper.from_array(weight(3), "w")
    places = numpy_helper.from_array(np.array([0, 5, 9]), "w_places")
    del model.graph.initializer[:]
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4, 1, 3, 3]))
    onnx.save_model(model, path)

    (layer,) = analyze(path).layers

    assert (layer.parameters.learnable, layer.weight_bytes) == (3, 12)
    assert layer.macs == 30 * 30 * 4 * 9
