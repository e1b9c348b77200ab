import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from convlens.analysis import analyze
from convlens.analysis.lint_rules import RULES
from convlens.analysis.linter import Finding, lint
from convlens.analysis.render_findings import findings_text
from convlens.analysis.render_text import plain
from tests.analysis.graphs import Array, node, save_graph, weight

SAME = [1, 1, 1, 1]
CONV = weight(1, 1, 3, 3)
POINTWISE = weight(1, 1, 1, 1)


def _found(
    path: Path,
    rule: str,
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, Array],
    input_shape: Sequence[int | str] = ("batch", 1, 32, 32),
) -> list[str | None]:
    """The layers that the rule complains about."""
    report = analyze(save_graph(path / "m.onnx", nodes, weights, input_shape))
    return [finding.layer for finding in lint(report) if finding.rule == rule]


@pytest.mark.parametrize(("size", "layers"), [(32, []), (8, ["c"]), (4, ["b", "c"])])
def test_a_conv_whose_input_sees_more_than_the_picture_is_unproductive(
    tmp_path: Path, size: int, layers: list[str]
) -> None:
    large = weight(1, 1, 5, 5)
    nodes = [
        node("Conv", "x w", "a", pads=[2, 2, 2, 2]),
        node("Conv", "a w", "b", pads=[2, 2, 2, 2]),
        node("Conv", "b w", "c", pads=[2, 2, 2, 2]),
    ]
    found = _found(tmp_path, "unproductive-layer", nodes, {"w": large}, (1, 1, size, size))

    assert found == layers


def test_a_shortcut_keeps_the_layers_behind_it_productive(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "a", pads=[4, 4, 4, 4]),
        node("Add", "x a", "sum"),
        node("Conv", "sum w", "c", pads=[4, 4, 4, 4]),
    ]
    large = {"w": weight(1, 1, 9, 9)}

    assert _found(tmp_path, "unproductive-layer", nodes, large, (1, 1, 8, 8)) == []


@pytest.mark.parametrize(("kernel", "layers"), [(1, ["y"]), (2, []), (3, [])])
def test_a_stride_larger_than_the_kernel_is_found(
    tmp_path: Path, kernel: int, layers: list[str]
) -> None:
    nodes = [node("Conv", "x w", "y", strides=[2, 2])]
    weights = {"w": weight(1, 1, kernel, kernel)}

    assert _found(tmp_path, "stride-exceeds-kernel", nodes, weights) == layers


@pytest.mark.parametrize(
    ("dilations", "layers"),
    [([2], ["d0"]), ([2, 2], ["d0", "d1"]), ([1, 2], []), ([1, 2, 5], []), ([1, 2, 9], ["d2"])],
)
def test_dilations_that_leave_holes_are_found(
    tmp_path: Path, dilations: list[int], layers: list[str]
) -> None:
    names = ["x", *(f"d{index}" for index in range(len(dilations)))]
    nodes = [
        node("Conv", f"{before} w", name, dilations=[dilation] * 2, pads=[dilation] * 4)
        for before, name, dilation in zip(names, names[1:], dilations, strict=False)
    ]

    assert _found(tmp_path, "dilation-gridding", nodes, {"w": CONV}) == layers


@pytest.mark.parametrize(
    ("nodes", "layers"),
    [
        ([node("MaxPool", "x", "y", kernel_shape=[2, 2], strides=[2, 2])], ["y"]),
        ([node("MaxPool", "x", "y", kernel_shape=[2, 2])], []),
        ([node("AveragePool", "x", "y", kernel_shape=[2, 2], strides=[2, 2])], []),
    ],
)
def test_downsampling_without_a_low_pass_is_found(
    tmp_path: Path, nodes: list[onnx.NodeProto], layers: list[str]
) -> None:
    assert _found(tmp_path, "aliasing", nodes, {}) == layers


@pytest.mark.parametrize(("inputs", "layers"), [("x w", []), ("x w b", ["y"])])
def test_a_strided_depthwise_conv_without_bias_is_a_blur(
    tmp_path: Path, inputs: str, layers: list[str]
) -> None:
    nodes = [node("Conv", inputs, "y", strides=[2, 2], group=4)]
    weights = {"w": weight(4, 1, 3, 3), "b": weight(4)}

    assert _found(tmp_path, "aliasing", nodes, weights, (1, 4, 32, 32)) == layers


@pytest.mark.parametrize(
    ("size", "pads", "layers"),
    [(33, [0, 0, 0, 0], ["y"]), (32, [0, 0, 0, 0], []), (33, [0, 0, 1, 1], [])],
)
def test_a_border_that_no_window_reaches_is_found(
    tmp_path: Path, size: int, pads: list[int], layers: list[str]
) -> None:
    pool = node("MaxPool", "x", "y", kernel_shape=[2, 2], strides=[2, 2], pads=pads)
    found = _found(tmp_path, "lost-border", [pool], {}, (1, 1, size, 32))

    assert found == layers


@pytest.mark.parametrize(
    ("kernel", "stride", "layers"), [(2, 1, ["y"]), (3, 1, []), (2, 2, []), (4, 1, ["y"])]
)
def test_an_even_kernel_of_stride_1_shifts_the_grid(
    tmp_path: Path, kernel: int, stride: int, layers: list[str]
) -> None:
    nodes = [node("Conv", "x w", "y", strides=[stride] * 2)]
    weights = {"w": weight(1, 1, kernel, kernel)}

    assert _found(tmp_path, "even-kernel-shift", nodes, weights) == layers


@pytest.mark.parametrize(("pads", "layers"), [([0, 0, 2, 2], ["sum"]), (SAME, [])])
def test_branches_that_look_at_different_places_are_found_where_they_meet(
    tmp_path: Path, pads: list[int], layers: list[str]
) -> None:
    nodes = [
        node("Conv", "x w", "moved", pads=pads),
        node("Add", "x moved", "sum"),
        node("Relu", "sum", "y"),
    ]

    assert _found(tmp_path, "misaligned-branches", nodes, {"w": CONV}) == layers


def test_initializers_that_nothing_reads_are_found(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "y")]
    path = save_graph(tmp_path / "m.onnx", nodes, {"w": CONV, "spare": weight(7)})
    (finding,) = [one for one in lint(analyze(path)) if one.rule == "unused-initializer"]

    assert finding.layer is None
    assert finding.reason == "the initializer spare is read by nothing"


def test_an_initializer_that_a_body_reads_is_used(tmp_path: Path) -> None:
    branch = onnx.helper.make_graph(
        [node("Identity", "w", "inner")],
        "branch",
        [],
        [onnx.helper.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, None)],
    )
    condition = np.asarray(True)
    nodes = [node("If", "condition", "y", then_branch=branch, else_branch=branch)]
    found = _found(tmp_path, "unused-initializer", nodes, {"w": CONV, "condition": condition})

    assert found == []


@pytest.mark.parametrize(("also", "layers"), [([], ["norm"]), ([node("Relu", "a", "z")], [])])
def test_a_batch_norm_that_its_conv_could_hold_is_found(
    tmp_path: Path, also: list[onnx.NodeProto], layers: list[str]
) -> None:
    nodes = [node("Conv", "x w", "a"), node("BatchNormalization", "a s s s s", "norm"), *also]

    assert _found(tmp_path, "unfused-batch-norm", nodes, {"w": CONV, "s": weight(1)}) == layers


@pytest.mark.parametrize(("dtype", "layers"), [(np.float64, ["wide"]), (np.float32, [])])
def test_weights_in_float64_are_found(
    tmp_path: Path, dtype: type[np.floating[np.typing.NBitBase]], layers: list[str]
) -> None:
    to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [node("Cast", "x", "cast", to=to), node("Conv", "cast w", "wide")]
    nodes.append(node("Cast", "wide", "y", to=onnx.TensorProto.FLOAT))

    assert _found(tmp_path, "float64-weights", nodes, {"w": CONV.astype(dtype)}) == layers


@pytest.mark.parametrize(("batch", "count"), [(1, 1), ("batch", 0)])
def test_a_fixed_batch_is_found_unless_it_was_asked_for(
    tmp_path: Path, batch: int | str, count: int
) -> None:
    path = save_graph(tmp_path / "m.onnx", [node("Relu", "x", "y")], {}, (batch, 1, 8, 8))
    found = [finding for finding in lint(analyze(path, batch=4)) if finding.rule == "fixed-batch"]

    assert len(found) == count


def test_every_rule_has_an_id_of_its_own_and_a_source() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES) == 11
    assert all(rule.source for rule in RULES)


def test_the_text_groups_the_findings_by_rule(tmp_path: Path) -> None:
    nodes = [
        node("MaxPool", "x", "first", kernel_shape=[2, 2], strides=[2, 2]),
        node("MaxPool", "first", "second", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    findings = lint(analyze(save_graph(tmp_path / "m.onnx", nodes, {})))
    text = plain(findings_text(findings))

    assert text.count("Zhang, Making Convolutional Networks Shift-Invariant Again") == 1
    assert "  first: MaxPool keeps one position in 2" in text
    assert text.endswith("0 warnings, 2 infos\n")
    assert plain(findings_text(())) == "nothing found\n"


def test_a_finding_is_plain_json(resnet18: Path) -> None:
    finding: Finding = lint(analyze(resnet18))[0]

    assert list(json.loads(json.dumps(finding.to_json()))) == [
        "rule", "severity", "layer", "scope", "reason", "source",
    ]  # fmt: skip
