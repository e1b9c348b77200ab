"""Operators that read or write at places which indices name."""

from pathlib import Path

import numpy as np
import pytest

from convlens.analysis import analyze
from convlens.analysis.render_text import plain, report_text
from convlens.analysis.verification import verify
from convlens.cli.runtime import open_session
from tests.analysis.graphs import node, save_graph, weight

_CONV = node("Conv", "x w", "map", pads=[1, 1, 1, 1])


def test_what_is_chosen_by_value_may_see_the_whole_picture(tmp_path: Path) -> None:
    nodes = [
        _CONV,
        node("Flatten", "map", "flat", axis=1),
        node("Greater", "flat zero", "large"),
        node("NonZero", "large", "places"),
        node("Transpose", "places", "rows", perm=[1, 0]),
        node("GatherND", "flat rows", "chosen"),
        node("Exp", "chosen", "y"),
    ]
    path = save_graph(
        tmp_path / "model.onnx",
        nodes,
        {"w": weight(2, 1, 3, 3), "zero": weight()},
        input_shape=(1, 1, 8, 8),
    )
    report = analyze(path)

    assert report.layer("places").outputs[0].shape == (2, "places_dim1")
    assert report.outputs[0].shape == ("places_dim1",)
    assert {layer.status for layer in report.layers} == {"exact"}
    for name in ("places", "rows", "chosen", "y"):
        assert report.layer(name).receptive_field.size is None
        assert report.layer(name).receptive_field.global_since == "places"
    assert "places_dim1, computed in the network, counted as 1 in" in plain(report_text(report))


@pytest.mark.parametrize("height", [6, 40])
def test_rows_that_are_written_in_place_are_followed(tmp_path: Path, height: int) -> None:
    count, first = height * height, 1
    nodes = [
        _CONV,
        node("Reshape", "map rows", "tokens"),
        node("Relu", "tokens", "new"),
        node("Concat", "token tokens", "old", axis=0),
        node("Range", "zero length one", "all"),
        node("Slice", "all begin end", "some"),
        node("Unsqueeze", "some last", "indices"),
        node("ScatterND", "old indices new", "written"),
        node("Slice", "written begin end", "kept"),
        node("Reshape", "kept shape", "back"),
        node("Conv", "back w", "y", pads=[1, 1, 1, 1]),
    ]
    constants = {
        "rows": np.array([count, 1]),
        "token": weight(first, 1),
        "zero": np.array(0),
        "one": np.array(1),
        "length": np.array(count + first),
        "begin": np.array([first]),
        "end": np.array([count + first]),
        "last": np.array([1]),
        "shape": np.array([1, 1, height, height]),
        "w": weight(1, 1, 3, 3),
    }
    path = save_graph(tmp_path / "model.onnx", nodes, constants, (1, 1, height, height))
    report = analyze(path)

    assert {layer.status for layer in report.layers} == {"exact"}
    assert report.layer("y").receptive_field.size == (5, 5)
    assert report.layer("y").receptive_field.start == (-2, -2)
    if height < 10:
        assert verify(path, open_session).holds


def test_a_long_list_of_indices_is_not_written_out(tmp_path: Path) -> None:
    nodes = [
        node("Range", "zero most one", "all"),
        node("Slice", "all one_row most_row", "some"),
        node("Cast", "some", "casted", to=7),
        node("Add", "casted one", "more"),
        node("Gather", "x more", "y", axis=2),
    ]
    constants = {
        "zero": np.array(0),
        "one": np.array(1),
        "most": np.array(2**31 - 2),
        "one_row": np.array([1]),
        "most_row": np.array([2**31 - 2]),
    }
    path = save_graph(tmp_path / "model.onnx", nodes, constants)

    assert analyze(path).outputs[0].shape == ("batch", 1, 2**31 - 3, 32)


def test_maps_of_several_strides_in_a_row_are_partial_and_the_reason_names_where(
    tmp_path: Path,
) -> None:
    nodes = [
        _CONV,
        node("MaxPool", "map", "small", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "map", "first", axis=2),
        node("Flatten", "small", "second", axis=2),
        node("Concat", "first second", "levels", axis=1),
        node("Relu", "levels", "y"),
    ]
    path = save_graph(
        tmp_path / "model.onnx", nodes, {"w": weight(2, 1, 3, 3)}, input_shape=(1, 1, 8, 8)
    )
    report = analyze(path)

    assert report.layer("y").outputs[0].shape == (2, 80)
    assert [report.layer(name).certainty.reason for name in ("second", "levels", "y")] == [
        None,
        "what it sees of the picture could not be worked out",
        "it lies behind levels, and what that sees is not known",
    ]
