from pathlib import Path

import onnx
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


def test_a_cycle_in_the_file_does_not_hang_the_derivation(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "m.onnx",
        [node("Add", "x x", "a"), node("Conv", "a w", "b", pads=[1, 1, 1, 1])],
        {"w": weight(1, 1, 3, 3)},
    )
    model = onnx.load(path)
    model.graph.node[0].input[1] = "b"
    path.write_bytes(model.SerializeToString())

    assert explain(analyze(path), "b").derivations
