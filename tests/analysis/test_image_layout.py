"""Which axes of an input are the batch, and height and width."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convlens.analysis import analyze, lint
from convlens.analysis.errors import InputSizeError
from convlens.analysis.render_html import report_html
from tests.analysis.graphs import node, save_graph, weight


def _save_single_picture(path: Path, shape: Sequence[int | str], *before: Any) -> Path:
    nodes = [
        *before,
        node("Unsqueeze", "moved front" if before else "x front", "batched"),
        node("Conv", "batched w", "y", pads=[1, 1, 1, 1]),
        node("Relu", "y", "output"),
    ]
    initializers = {"front": np.array([0]), "w": weight(2, 3, 3, 3)}
    return save_graph(path, nodes, initializers, input_shape=shape)


def test_a_single_picture_has_a_size_but_no_batch(tmp_path: Path) -> None:
    path = _save_single_picture(tmp_path / "one.onnx", (3, "h", "w"))

    sized = analyze(path, input_size=(48, 64))
    symbolic = analyze(path, symbolic=True)

    assert sized.inputs[0].shape == (3, 48, 64)
    assert sized.outputs[0].shape == (1, 2, 48, 64)
    assert symbolic.inputs[0].shape == (3, "H", "W")
    assert symbolic.outputs[0].shape == (1, 2, "H", "W")
    with pytest.raises(InputSizeError, match=r"no input has a batch .* single picture, \[3,h,w\]"):
        analyze(path, batch=2)
    assert "fixed-batch: the input x is one picture, without a batch" in {
        f"{finding.rule}: {finding.reason}" for finding in lint(sized)
    }


def test_a_single_picture_may_have_its_channels_last(tmp_path: Path) -> None:
    first = node("Transpose", "x", "moved", perm=[2, 0, 1])
    path = _save_single_picture(tmp_path / "last.onnx", ("h", "w", 3), first)

    report = analyze(path, input_size=(48, 64))

    assert report.outputs[0].shape == (1, 2, 48, 64)
    assert report.layer("y").receptive_field.start == (-1, -1)


@pytest.mark.parametrize("single", [False, True])
def test_the_page_shows_a_picture_whose_channels_are_last_in_its_own_size(
    tmp_path: Path, single: bool
) -> None:
    if single:
        path = _save_single_picture(tmp_path / "one.onnx", (3, 48, 64))
    else:
        nodes = [
            node("Transpose", "x", "first", perm=[0, 3, 1, 2]),
            node("Conv", "first w", "y", pads=[1, 1, 1, 1]),
        ]
        weights = {"w": weight(2, 3, 3, 3)}
        path = save_graph(tmp_path / "last.onnx", nodes, weights, input_shape=(1, 48, 64, 3))
    report = analyze(path)

    assert report.picture_size == (48, 64)
    assert 'data-box="' in report_html(report)


def test_a_signal_of_three_channels_keeps_its_batch(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "signal.onnx", [node("Conv", "x w", "y")], {"w": weight(2, 3, 5)}, (4, 3, 100)
    )

    report = analyze(path, batch=7, input_size=(50,))

    assert report.outputs[0].shape == (7, 2, 46)
