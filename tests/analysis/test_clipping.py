from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx

from convlens.analysis import ReceptiveField, analyze
from convlens.analysis.clipping import Clipped, centre, clipped, corner
from convlens.analysis.verification import verify
from convlens.cli.runtime import open_session
from tests.analysis.graphs import Array, node, save_graph, weight

_FIELD = ReceptiveField(size=(5, 5), stride=(2, 2), start=(-2, -2))


def test_the_corner_unit_of_a_padded_network_looks_mostly_into_the_padding() -> None:
    seen = clipped(_FIELD, (10, 10), corner((5, 5)))

    assert seen is not None
    assert (seen.begin, seen.end) == ((0, 0), (3, 3))
    assert seen.coverage == Fraction(9, 100)
    assert seen.padding == 1 - Fraction(9, 25)


def test_the_centre_unit_sees_its_whole_window() -> None:
    seen = clipped(_FIELD, (10, 10), centre((5, 5)))

    assert seen is not None
    assert (seen.begin, seen.end) == ((2, 2), (7, 7))
    assert seen.padding == 0


def test_a_window_larger_than_the_picture_sees_all_of_it() -> None:
    field = ReceptiveField(size=(427, 427), stride=(32, 32), start=(-213, -213))
    seen = clipped(field, (224, 224), centre((7, 7)))

    assert seen is not None
    assert seen.coverage == 1
    assert seen.padding == 1 - Fraction(224 * 224, 427 * 427)


def test_an_axis_without_a_local_path_is_seen_as_a_whole() -> None:
    field = ReceptiveField(size=(1, None), stride=(1, None), start=(0, None))
    seen = clipped(field, (4, 6), (2, 0))

    assert seen is not None
    assert (seen.begin, seen.end) == ((2, 0), (3, 6))
    assert seen.padding == 0


def test_without_a_local_path_there_is_nothing_to_clip() -> None:
    assert clipped(ReceptiveField(global_since="pool"), (4, 4), (0, 0)) is None


def _last(
    tmp_path: Path, nodes: Sequence[onnx.NodeProto], size: tuple[int, int], **constants: Array
) -> Clipped:
    """What the last unit of the network sees, every unit being as a run says."""
    path = save_graph(tmp_path / "m.onnx", nodes, constants, (1, 1, *size))
    assert verify(path, open_session, units=10**6).differences == ()
    report = analyze(path)
    layer = report.layers[-1]
    _, _, *lengths = (int(dim) for dim in layer.outputs[0].shape or ())
    seen = clipped(layer.receptive_field, size, tuple(length - 1 for length in lengths))
    assert seen is not None
    return seen


def test_a_position_for_which_a_stride_left_no_room_is_padding(tmp_path: Path) -> None:
    nodes = [
        node("MaxPool", "x", "pool", kernel_shape=[1, 3], strides=[1, 2]),
        node("Conv", "pool w", "y", pads=[0, 1, 0, 1]),
    ]
    seen = _last(tmp_path, nodes, (1, 10), w=weight(1, 1, 1, 3))

    # The windows begin at 0, 2, 4 and 6: no one sees pixel 9, and a fifth would see it.
    assert (seen.begin, seen.end) == ((0, 4), (1, 9))
    assert seen.padding == Fraction(2, 7)


def test_a_position_that_a_reduction_rounded_away_is_padding(tmp_path: Path) -> None:
    resize = onnx.helper.make_node(
        "Resize", ["x", "", "half"], ["small"], mode="nearest", nearest_mode="floor"
    )
    nodes = [resize, node("Conv", "small w", "y", pads=[0, 0, 0, 1])]
    half = np.array([1, 1, 1, 0.5], np.float32)
    seen = _last(tmp_path, nodes, (1, 9), half=half, w=weight(1, 1, 1, 2))

    assert (seen.begin, seen.end) == ((0, 6), (1, 7))


def test_what_was_cut_off_comes_back_as_padding(tmp_path: Path) -> None:
    ends = {"first": [2, 2], "last": [6, 7], "axes": [2, 3]}
    nodes = [
        node("Slice", "x first last axes", "cut"),
        node("Conv", "cut w", "y", pads=[1, 1, 1, 1]),
    ]
    constants = {name: np.array(places, np.int64) for name, places in ends.items()}
    seen = _last(tmp_path, nodes, (9, 9), w=weight(1, 1, 3, 3), **constants)

    assert (seen.begin, seen.end) == ((4, 5), (6, 7))
    assert seen.coverage == Fraction(4, 81)
