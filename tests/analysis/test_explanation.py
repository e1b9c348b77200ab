from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convlens.analysis import analyze, explain
from convlens.analysis.render_explanation import explanation_text
from convlens.analysis.render_text import plain
from tests.analysis.graphs import node, save_graph, weight


def _text(path: Path, layer: str) -> str:
    return plain(explanation_text(explain(analyze(path), layer)))


@pytest.mark.parametrize("layer", ["conv1", "layer2.0.conv1", "layer4.1.conv2", "avgpool", "fc"])
def test_the_growths_add_up_to_the_receptive_field(resnet18: Path, layer: str) -> None:
    explanation = explain(analyze(resnet18), layer)
    size = explanation.layer.receptive_field.size

    assert len(explanation.derivations) == (1 if size else 0)
    for derivation in explanation.derivations:
        assert derivation.axes == ("height", "width")
        assert size == (1 + sum(growth.added for growth in derivation.growths),) * 2


def test_each_window_adds_its_extent_times_the_stride_before_it(resnet18: Path) -> None:
    (derivation,) = explain(analyze(resnet18), "layer4.1.conv2").derivations
    windows = [growth for growth in derivation.growths if growth.extent is not None]

    assert len(windows) == 18  # the longest path: all 3x3 convolutions, the first, and its pooling
    for growth in windows:
        assert growth.extent is not None
        assert growth.added == (growth.extent - 1) * growth.stride


def test_axes_that_differ_are_derived_apart(tmp_path: Path) -> None:
    path = save_graph(tmp_path / "m.onnx", [node("Conv", "x w", "y")], {"w": weight(1, 1, 3, 5)})
    explanation = explain(analyze(path), "y")

    assert [derivation.axes for derivation in explanation.derivations] == [("height",), ("width",)]
    assert [size.output_size for size in explanation.output_sizes] == [30, 28]


def test_a_merge_adds_what_the_other_branch_sees_beyond(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "left", pads=[2, 2, 0, 0]),
        node("Conv", "x w", "right", pads=[0, 0, 2, 2]),
        node("Add", "left right", "y"),
    ]
    path = save_graph(tmp_path / "m.onnx", nodes, {"w": weight(1, 1, 3, 3)})
    (derivation,) = explain(analyze(path), "y").derivations

    assert [growth.added for growth in derivation.growths] == [0, 2, 2]
    assert derivation.growths[-1].extent is None


@pytest.mark.parametrize(
    ("attributes", "formula"),
    [
        ({}, "floor((32 - 3 + 2*0) / 1) + 1 = 30"),
        ({"dilations": [2, 2]}, "floor((32 - (2*(3 - 1) + 1) + 2*0) / 1) + 1 = 28"),
        (
            {"pads": [0, 0, 1, 1], "strides": [2, 2]},
            "floor((32 - 3 + 0 + 1) / 2) + 1 = 16",
        ),
    ],
)
def test_the_formula_is_shown_with_its_numbers(
    tmp_path: Path, attributes: dict[str, list[int]], formula: str
) -> None:
    nodes = [node("Conv", "x w", "y", **attributes)]
    path = save_graph(tmp_path / "m.onnx", nodes, {"w": weight(1, 1, 3, 3)})

    assert f"height and width: {formula}\n" in _text(path, "y")


def test_ceil_mode_is_shown_as_such(tmp_path: Path) -> None:
    pool = node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    path = save_graph(tmp_path / "m.onnx", [pool], {})

    assert "ceil((32 - 3 + 2*0) / 2) + 1 = 16" in _text(path, "y")


def test_the_parameter_terms_add_up(lenet5: Path, resnet18: Path) -> None:
    for path in (lenet5, resnet18):
        report = analyze(path)
        for layer in report.layers:
            terms = explain(report, layer.name).parameter_terms
            assert sum(count for _, count in terms) == layer.parameters.learnable


def test_a_folded_batch_normalisation_is_named_in_the_parameters(resnet18: Path) -> None:
    terms = explain(analyze(resnet18), "conv1").parameter_terms

    assert terms == (
        ("64 x 3 x 7 x 7 weights", 9408),
        ("2 x 64 scales and shifts of the folded BatchNormalization", 128),
    )


def test_a_fully_connected_layer_of_the_same_maps_is_priced(lenet5: Path) -> None:
    dense = explain(analyze(lenet5), "conv2").dense

    assert dense is not None
    assert dense.weights == 6 * 14 * 14 * 16 * 10 * 10


def test_a_global_layer_is_explained_by_the_node_that_made_it_so(lenet5: Path) -> None:
    assert "it sees the whole picture, first at node fc1" in _text(lenet5, "fc2")


def test_what_sharing_saved_is_told_apart_from_what_locality_saved(lenet5: Path) -> None:
    dense = explain(analyze(lenet5), "conv2").dense

    assert dense is not None
    assert dense.local_weights == 16 * 10 * 10 * 6 * 5 * 5
    assert "locally connected   150 x 1,600 = 240,000 weights, 99 times" in _text(lenet5, "conv2")


def test_the_derivation_follows_an_axis_through_a_transpose(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x tall", "high"),
        node("Transpose", "high", "turned", perm=[0, 1, 3, 2]),
        node("Conv", "turned tall", "wide"),
        node("Conv", "wide tall", "wider"),
    ]
    path = save_graph(tmp_path / "m.onnx", nodes, {"tall": weight(1, 1, 5, 1)})
    explanation = explain(analyze(path), "wider")

    assert explanation.layer.receptive_field.size == (9, 5)
    grown = {
        derivation.axes: [growth.layer.name for growth in derivation.growths if growth.layer]
        for derivation in explanation.derivations
    }
    assert grown == {("height",): ["high"], ("width",): ["wide", "wider"]}
    for derivation in explanation.derivations:
        assert all(growth.extent == 5 for growth in derivation.growths[1:])


def _stacked(path: Path, kernels: list[int], **first: list[int]) -> Path:
    nodes, weights, before = [], {}, "x"
    for index, kernel in enumerate(kernels):
        pads = [(kernel - 1) // 2] * 4
        name, filter_name = f"conv{index}", f"w{index}"
        attributes = {"pads": pads} | (first if index == 0 else {})
        nodes.append(node("Conv", f"{before} {filter_name}", name, **attributes))
        nodes.append(node("Relu", name, f"relu{index}"))
        weights[filter_name] = weight(8, 8, kernel, kernel)
        before = f"relu{index}"
    return save_graph(path, nodes, weights, input_shape=(1, 8, 32, 32))


def test_three_3x3_are_compared_with_the_7x7_that_they_replace(tmp_path: Path) -> None:
    path = _stacked(tmp_path / "m.onnx", [1, 3, 3, 3])
    stack = explain(analyze(path), "conv3").stack

    assert stack is not None
    assert [layer.name for layer in stack.layers] == ["conv1", "conv2", "conv3"]
    assert stack.kernel == (7, 7)
    assert (stack.weights, stack.single_weights) == (27 * 8 * 8, 49 * 8 * 8)
    assert stack.single_macs == 49 * 8 * 8 * 32 * 32
    assert "3x3, 3x3, 3x3 see what one 7x7 sees" in _text(path, "conv3")


def test_a_stride_inside_a_stack_spreads_the_kernels_after_it(tmp_path: Path) -> None:
    path = _stacked(tmp_path / "m.onnx", [3, 3], strides=[2, 2])
    stack = explain(analyze(path), "conv1").stack

    assert stack is not None
    assert stack.kernel == (7, 7)


@pytest.mark.parametrize(("kernels", "layer"), [([3], "conv0"), ([3, 1], "conv1")])
def test_one_kernel_is_no_stack(tmp_path: Path, kernels: list[int], layer: str) -> None:
    path = _stacked(tmp_path / "m.onnx", kernels)

    assert explain(analyze(path), layer).stack is None


def test_a_merge_or_a_pooling_ends_the_stack(resnet18: Path) -> None:
    report = analyze(resnet18)
    stack = explain(report, "layer1.1.conv2").stack

    assert stack is not None
    assert [layer.scope for layer in stack.layers] == ["layer1.1.conv1", "layer1.1.conv2"]
    assert explain(report, "layer1.0.conv1").stack is None


def test_what_the_centre_and_the_corner_see_is_clipped_to_the_picture(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "y", pads=[1, 1, 1, 1])]
    path = save_graph(tmp_path / "m.onnx", nodes, {"w": weight(1, 1, 3, 3)}, (1, 1, 8, 8))
    views = dict(explain(analyze(path), "y").views)

    assert (views["centre"].begin, views["centre"].end) == ((3, 3), (6, 6))
    assert views["centre"].padding == 0
    assert (views["corner"].begin, views["corner"].end) == ((0, 0), (2, 2))
    assert (views["corner"].coverage, views["corner"].padding) == (
        Fraction(4, 64),
        Fraction(5, 9),
    )


def test_branches_of_different_strides_are_told_with_their_range(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "coarse", strides=[2, 2], pads=[1] * 4),
        node("Slice", "x zero half axes", "near"),
        node("Add", "coarse near", "sum"),
        node("Conv", "sum w", "y"),
    ]
    constants = {
        "w": weight(1, 1, 3, 3), "zero": np.array([0, 0]), "half": np.array([16, 16]),
        "axes": np.array([2, 3]),
    }  # fmt: skip
    path = save_graph(tmp_path / "m.onnx", nodes, constants, (1, 1, 32, 32))
    text = _text(path, "y")

    assert "branches of different stride or centre meet, first at node sum" in text
    assert (
        "height and width: they see 3 to 7 pixels at strides 1 to 2: "
        "3 at stride 1 from 0 on; 7 at stride 2 from -1 on"
    ) in " ".join(text.split())


@pytest.mark.parametrize(
    ("attributes", "formula"),
    [
        ({"strides": [2, 2]}, "2*(8 - 1) + 3 - 2*0 + 0 = 17"),
        (
            {"strides": [3, 3], "pads": [1, 1, 0, 0], "output_padding": [2, 2]},
            "3*(8 - 1) + 3 - (1 + 0) + 2 = 25",
        ),
        ({"strides": [2, 2], "auto_pad": "SAME_UPPER"}, "2*(8 - 1) + 3 - (0 + 1) + 0 = 16"),
    ],
)
def test_the_formula_of_a_transposed_convolution_is_shown_with_its_numbers(
    tmp_path: Path, attributes: dict[str, Any], formula: str
) -> None:
    nodes = [node("ConvTranspose", "x w", "y", **attributes)]
    path = save_graph(tmp_path / "m.onnx", nodes, {"w": weight(1, 1, 3, 3)}, (1, 1, 8, 8))
    explanation = explain(analyze(path), "y")

    assert f"height and width: {formula}\n" in _text(path, "y")
    assert explanation.layer.outputs[0].shape is not None
    assert explanation.output_sizes[0].output_size == explanation.layer.outputs[0].shape[2]
