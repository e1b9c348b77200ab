from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from convlens.analysis import ReceptiveField, Report, analyze
from convlens.analysis.interval import Interval, is_aligned, union
from convlens.analysis.reach import Reach
from tests.analysis.graphs import Array, node, save_graph, weight


def _analyze(
    tmp_path: Path, nodes: Sequence[onnx.NodeProto], *, size: int = 32, **weights: Array
) -> Report:
    path = save_graph(tmp_path / "model.onnx", nodes, weights, input_shape=(1, 2, size, size))
    return analyze(path)


def test_a_window_adds_its_extent_times_the_stride_before_it(tmp_path: Path) -> None:
    report = _analyze(
        tmp_path,
        [
            node("Conv", "x w", "first", strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Conv", "first w", "second", dilations=[2, 2], strides=[3, 3]),
        ],
        w=weight(2, 2, 3, 3),
    )
    field = report.layer("second").receptive_field

    assert field.size == (3 + (2 * 2) * 2,) * 2
    assert field.stride == (6, 6)
    assert field.start == (-1, -1)


def test_the_axes_are_kept_apart(tmp_path: Path) -> None:
    report = _analyze(
        tmp_path,
        [node("Conv", "x w", "y", strides=[1, 2], pads=[0, 3, 0, 1])],
        w=weight(2, 2, 1, 7),
    )
    field = report.layer("y").receptive_field

    assert (field.size, field.stride, field.start) == ((1, 7), (1, 2), (0, -3))


def test_padding_of_the_kind_same_lies_mostly_at_the_end(tmp_path: Path) -> None:
    report = _analyze(
        tmp_path,
        [node("Conv", "x w", "y", auto_pad="SAME_UPPER", strides=[2, 2])],
        w=weight(2, 2, 3, 3),
    )
    assert report.layer("y").receptive_field.start == (0, 0)


def test_a_residual_add_takes_the_union_of_its_branches(tmp_path: Path) -> None:
    report = _analyze(
        tmp_path,
        [
            node("Conv", "x w3", "long", pads=[1, 1, 1, 1], strides=[2, 2]),
            node("Conv", "x w1", "short", strides=[2, 2]),
            node("Add", "short long", "y"),
        ],
        w3=weight(2, 2, 3, 3),
        w1=weight(2, 2, 1, 1),
    )
    field = report.layer("y").receptive_field

    assert (field.size, field.stride, field.start) == ((3, 3), (2, 2), (-1, -1))
    assert field.aligned


def test_branches_with_different_centres_are_not_aligned(tmp_path: Path) -> None:
    report = _analyze(
        tmp_path,
        [
            node("Conv", "x w", "shifted", pads=[0, 0, 1, 1]),
            node("Add", "x shifted", "sum"),
            node("Relu", "sum", "y"),
        ],
        w=weight(2, 2, 2, 2),
    )
    field = report.layer("y").receptive_field

    assert (field.size, field.start) == ((2, 2), (0, 0))
    assert not field.aligned


def test_branches_with_different_strides_keep_the_larger_size_and_the_smaller_stride() -> None:
    fine, coarse = Interval(size=3, stride=1, start=0), Interval(size=7, stride=2, start=-3)

    assert union(fine, coarse) == Interval(size=7, stride=1, start=-3)
    assert not is_aligned(fine, coarse)


def test_intervals_reckon_with_fractions() -> None:
    half = Interval(size=Fraction(3, 2), stride=Fraction(1, 2), start=Fraction(-1, 2))

    assert half.through(Reach(((0, 1, 2),))) == Interval(
        Fraction(5, 2), Fraction(1, 2), Fraction(-1, 2)
    )
    assert half.double_centre == Fraction(-1, 2)


@pytest.mark.parametrize(
    "pool",
    [
        node("GlobalAveragePool", "x", "pool"),
        node("ReduceMean", "x spatial", "pool"),
        node("ReduceMax", "x last", "pool"),
    ],
)
def test_pooling_over_the_whole_map_is_global(tmp_path: Path, pool: onnx.NodeProto) -> None:
    report = _analyze(
        tmp_path,
        [pool, node("Relu", "pool", "y")],
        spatial=np.array([2, 3], dtype=np.int64),
        last=np.array([-1, -2], dtype=np.int64),
    )
    assert report.layer("y").receptive_field == ReceptiveField(global_since="pool")


def test_a_reduction_over_one_axis_leaves_the_other_local(tmp_path: Path) -> None:
    report = _analyze(
        tmp_path,
        [node("ReduceMean", "x width", "y", keepdims=0)],
        width=np.array([3], dtype=np.int64),
    )
    field = report.layer("y").receptive_field

    assert field.size == (1, None)
    assert field.global_since == "y"


def test_pooling_with_a_kernel_as_large_as_the_map_stays_local(tmp_path: Path) -> None:
    report = _analyze(tmp_path, [node("AveragePool", "x", "y", kernel_shape=[32, 32])])
    field = report.layer("y").receptive_field

    assert field.size == (32, 32)
    assert field.global_since is None


def test_a_squeeze_and_excitation_gate_does_not_hide_the_local_path(tmp_path: Path) -> None:
    report = _analyze(
        tmp_path,
        [
            node("Conv", "x w3", "conv", pads=[1, 1, 1, 1]),
            node("GlobalAveragePool", "conv", "squeeze"),
            node("Conv", "squeeze w1", "excite"),
            node("Sigmoid", "excite", "gate"),
            node("Mul", "conv gate", "scaled"),
            node("Conv", "scaled w3", "y"),
        ],
        w3=weight(2, 2, 3, 3),
        w1=weight(2, 2, 1, 1),
    )
    field = report.layer("y").receptive_field

    assert field.size == (5, 5)
    assert field.global_since == "squeeze"
    assert field.aligned


@pytest.mark.parametrize("op_type", ["Flatten", "Reshape"])
def test_a_fully_connected_layer_behind_a_flatten_is_global(tmp_path: Path, op_type: str) -> None:
    inputs = "x" if op_type == "Flatten" else "x shape"
    report = _analyze(
        tmp_path,
        [node(op_type, inputs, "flat"), node("Gemm", "flat w", "y")],
        size=4,
        shape=np.array([0, -1], dtype=np.int64),
        w=weight(32, 3),
    )

    assert report.layer("flat").receptive_field.size == (1, 1)
    assert report.layer("y").receptive_field == ReceptiveField(global_since="y")


def test_a_layer_norm_over_channels_between_transposes_is_pointwise(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "conv", strides=[4, 4]),
        node("Transpose", "conv", "last", perm=[0, 2, 3, 1]),
        node("LayerNormalization", "last scale", "norm", axis=-1),
        node("MatMul", "norm mix", "mixed"),
        node("Transpose", "mixed", "y", perm=[0, 3, 1, 2]),
    ]
    report = _analyze(tmp_path, nodes, w=weight(2, 2, 4, 4), scale=weight(2), mix=weight(2, 5))
    field = report.layer("y").receptive_field

    assert (field.size, field.stride, field.global_since) == ((4, 4), (4, 4), None)


@pytest.mark.parametrize(
    "norm",
    [
        node("InstanceNormalization", "conv scale shift", "norm"),
        node("LayerNormalization", "conv scales", "norm", axis=1),
        node("Softmax", "conv", "norm", axis=3),
    ],
)
def test_a_normalisation_over_space_is_global_and_keeps_the_pointwise_path(
    tmp_path: Path, norm: onnx.NodeProto
) -> None:
    report = _analyze(
        tmp_path,
        [node("Conv", "x w", "conv"), norm, node("Relu", "norm", "y")],
        w=weight(2, 2, 3, 3),
        scale=weight(2),
        shift=weight(2),
        scales=weight(2, 30, 30),
    )
    field = report.layer("y").receptive_field

    assert field.size == (3, 3)
    assert field.global_since == "norm"


def test_attention_over_positions_is_global_and_keeps_the_path_of_the_query(tmp_path: Path) -> None:
    report = _analyze(
        tmp_path,
        [
            node("Conv", "x w", "patches", strides=[8, 8]),
            node("Reshape", "patches tokens", "keys"),
            node("Transpose", "keys", "queries", perm=[0, 2, 1]),
            node("MatMul", "queries keys", "scores"),
            node("Softmax", "scores", "attention"),
            node("MatMul", "attention queries", "y"),
        ],
        w=weight(2, 2, 8, 8),
        tokens=np.array([0, 0, -1], dtype=np.int64),
    )
    field = report.layer("y").receptive_field

    assert field.size == (8, 8)
    assert field.global_since == "scores"


def test_a_transpose_swaps_what_is_reported_of_the_axes(tmp_path: Path) -> None:
    report = _analyze(
        tmp_path,
        [node("Conv", "x w", "conv"), node("Transpose", "conv", "y", perm=[0, 1, 3, 2])],
        w=weight(2, 2, 3, 5),
    )
    assert report.layer("conv").receptive_field.size == (3, 5)
    assert report.layer("y").receptive_field.size == (5, 3)


def test_channels_that_were_rows_and_columns_widen_the_field_when_they_are_mixed(
    tmp_path: Path,
) -> None:
    # Space to depth as a Reshape and a Transpose, then a Conv of 1x1.
    nodes = [
        node("Reshape", "x blocks", "split"),
        node("Transpose", "split", "moved", perm=[0, 3, 5, 1, 2, 4]),
        node("Reshape", "moved merged", "deep"),
        node("Conv", "deep w", "y"),
    ]
    report = _analyze(
        tmp_path,
        nodes,
        blocks=np.array([1, 2, 8, 4, 8, 4], dtype=np.int64),
        merged=np.array([1, 32, 8, 8], dtype=np.int64),
        w=weight(3, 32, 1, 1),
    )
    field = report.layer("y").receptive_field

    assert (field.size, field.stride, field.start) == ((4, 4), (4, 4), (0, 0))
    assert field.global_since is None


def test_an_operator_that_is_not_understood_degrades_its_row_and_not_the_report(
    tmp_path: Path,
) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [
            node("Conv", "x w", "known", pads=[1, 1, 1, 1]),
            node("Hardmax", "known", "strange"),
            node("Add", "known strange", "y"),
        ],
        {"w": weight(2, 2, 3, 3)},
        input_shape=(1, 2, 8, 8),
    )
    report = analyze(path)

    assert [layer.status for layer in report.layers] == ["exact", "unknown", "partial"]
    assert report.layer("y").receptive_field.size == (3, 3)
    assert not report.layer("y").receptive_field.complete


@pytest.mark.parametrize("spatial", [1, 3])
def test_one_and_three_dimensional_networks_have_as_many_entries(
    tmp_path: Path, spatial: int
) -> None:
    path = save_graph(
        tmp_path / "model.onnx",
        [node("Conv", "x w", "y", strides=[2] * spatial)],
        {"w": weight(2, 2, *(3,) * spatial)},
        input_shape=(1, 2, *(9,) * spatial),
    )
    field = analyze(path).layers[0].receptive_field

    assert field.size == (3,) * spatial
    assert field.stride == (2,) * spatial


@pytest.mark.parametrize("seed", range(12))
def test_the_field_is_the_one_that_perturbing_pixels_measures(tmp_path: Path, seed: int) -> None:
    size = 61
    path = _random_network(tmp_path / "model.onnx", np.random.RandomState(seed), size)
    field = analyze(path).layers[-1].receptive_field
    assert field.size is not None
    assert field.stride is not None
    assert field.start is not None
    interior = 0
    for axis in range(2):
        sees = _measure(path, size, axis)
        for position, pixels in enumerate(sees):
            start = int(field.start[axis] or 0) + int(field.stride[axis] or 0) * position
            stop = start + int(field.size[axis] or 0)
            if len(pixels) == 0:  # a window that lies in the padding of some map
                continue
            assert start <= pixels[0]
            assert pixels[-1] < stop
            if start >= 0 and stop <= size:
                assert (pixels[0], pixels[-1] + 1) == (start, stop)
                interior += 1
    assert interior > 0


def _random_network(path: Path, random: np.random.RandomState, size: int) -> Path:
    """A stack of convolutions, poolings and residual blocks whose weights are all positive."""
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, Array] = {}
    current = "x"

    def conv(source: str, kernel: Sequence[int], **attributes: Any) -> str:
        name = f"n{len(nodes)}"
        weights[f"w_{name}"] = weight(1, 1, *kernel)
        nodes.append(node("Conv", f"{source} w_{name}", name, **attributes))
        return name

    for _ in range(random.randint(2, 5)):
        kernel = random.randint(1, 4, size=2).tolist()
        pads = random.randint(0, 2, size=4).tolist()
        strides = random.randint(1, 3, size=2).tolist() if len(nodes) < 3 else [1, 1]
        kind = random.randint(3)
        if kind == 0:
            dilations = random.randint(1, 3, size=2).tolist()
            current = conv(current, kernel, pads=pads, strides=strides, dilations=dilations)
        elif kind == 1:
            name = f"n{len(nodes)}"
            kernel = [length + 1 for length in kernel]
            op_type = ("MaxPool", "AveragePool")[random.randint(2)]
            nodes.append(
                node(op_type, current, name, kernel_shape=kernel, pads=pads, strides=strides)
            )
            current = name
        else:
            wide = conv(current, [5, 3], pads=[2, 1, 2, 1], strides=strides)
            narrow = conv(current, [1, 1], strides=strides)
            name = f"n{len(nodes)}"
            nodes.append(node("Add", f"{wide} {narrow}", name))
            current = name
    return save_graph(path, nodes, weights, input_shape=("batch", 1, size, size))


def _measure(path: Path, size: int, axis: int) -> list[Array]:
    """For each output position along the axis, the input positions that change it."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    # One picture for each row or column: all dark but for it.
    pictures = np.zeros((size, 1, size, size), dtype=np.float32)
    for position in range(size):
        np.moveaxis(pictures[position, 0], axis, 0)[position] = 1.0
    (outputs,) = session.run(None, {"x": pictures})
    maps = np.moveaxis(np.asarray(outputs)[:, 0], axis + 1, 1)
    changed = maps.reshape(size, maps.shape[1], -1).max(axis=2) > 0
    return [np.flatnonzero(changed[:, position]) for position in range(maps.shape[1])]
