"""What operators that move pixels do to the receptive field, by their specification."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from torchvision import models

from convlens.analysis import ReceptiveField, Report, analyze
from convlens.analysis.verification import verify
from convlens.cli.runtime import open_session
from tests.analysis.conftest import export
from tests.analysis.graphs import Array, node, save_graph, weight


def _ints(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


def _report(
    tmp_path: Path,
    nodes: Sequence[onnx.NodeProto],
    shape: tuple[int, ...] = (1, 4, 12, 12),
    **constants: Array,
) -> Report:
    """The report of a network that a run has confirmed in every unit."""
    path = save_graph(tmp_path / "m.onnx", nodes, constants, shape)
    verification = verify(path, open_session, units=10**6)
    assert verification.differences == ()
    return analyze(path)


def _numbers(field: ReceptiveField) -> tuple[Any, Any, Any]:
    return field.size, field.stride, field.start


def test_a_slice_moves_the_start_and_multiplies_the_stride(tmp_path: Path) -> None:
    report = _report(
        tmp_path,
        [node("Slice", "x one end rows two", "y")],
        one=_ints(1), end=_ints(11), rows=_ints(2), two=_ints(2),
    )  # fmt: skip

    assert _numbers(report.layer("y").receptive_field) == ((1, 1), (2, 1), (1, 0))


def test_a_pad_moves_the_start_out_of_the_picture(tmp_path: Path) -> None:
    pads = _ints(0, 0, 3, 0, 0, 0, 0, 2)
    report = _report(tmp_path, [node("Pad", "x pads", "y")], pads=pads)

    assert report.layer("y").receptive_field.start == (-3, 0)


def test_a_transposed_convolution_divides_the_stride(tmp_path: Path) -> None:
    nodes = [node("ConvTranspose", "x w", "y", strides=[2, 2], pads=[1, 1, 1, 1])]
    report = _report(tmp_path, nodes, w=weight(4, 4, 4, 4))
    field = report.layer("y").receptive_field

    assert field.stride == (Fraction(1, 2),) * 2
    assert field.size is not None
    # Each output sees two inputs.
    assert all(size is not None and 2 <= size < 4 for size in field.size)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_an_enlargement_exceeds_what_is_seen_by_less_than_two_pixels(
    tmp_path: Path, mode: str
) -> None:
    nodes = [node("Resize", "x  scales", "y", mode=mode)]
    nodes[0].input[:] = ["x", "", "scales"]
    scales = np.array([1, 1, 2, 2], dtype=np.float32)
    report = _report(tmp_path, nodes, scales=scales)
    field = report.layer("y").receptive_field
    taps = {"nearest": 1, "linear": 2, "cubic": 4}[mode]

    assert field.stride == (Fraction(1, 2),) * 2
    assert field.size is not None
    assert all(size is not None and taps <= size < taps + 2 for size in field.size)


def test_depth_to_space_divides_the_stride(tmp_path: Path) -> None:
    report = _report(tmp_path, [node("DepthToSpace", "x", "y", blocksize=2)])

    assert report.layer("y").receptive_field.stride == (Fraction(1, 2),) * 2


def test_space_to_depth_and_a_pointwise_convolution_see_a_block(tmp_path: Path) -> None:
    nodes = [node("SpaceToDepth", "x", "deep", blocksize=2), node("Conv", "deep w", "y")]
    report = _report(tmp_path, nodes, w=weight(4, 16, 1, 1))

    assert _numbers(report.layer("y").receptive_field) == ((2, 2), (2, 2), (0, 0))


def test_a_gate_over_blocks_in_the_channels_is_global(tmp_path: Path) -> None:
    nodes = [
        node("SpaceToDepth", "x", "deep", blocksize=2),
        node("GlobalAveragePool", "deep", "squeezed"),
        node("Mul", "deep squeezed", "y"),
    ]
    report = _report(tmp_path, nodes)

    assert report.layer("y").receptive_field.global_since == "squeezed"


def test_a_branch_of_another_stride_is_named(tmp_path: Path) -> None:
    nodes = [
        node("MaxPool", "x", "coarse", kernel_shape=[3, 3], strides=[3, 3]),
        node("Conv", "x w", "fine", pads=[0, 0, 0, 0], dilations=[4, 4]),
        node("Add", "coarse fine", "sum"),
        node("Relu", "sum", "y"),
    ]
    report = _report(tmp_path, nodes, w=weight(4, 4, 3, 3))
    field = report.layer("y").receptive_field

    assert field.misaligned_since == "sum"
    assert (field.size, field.stride) == ((9, 9), (1, 1))


def test_softmax_before_opset_13_is_over_all_axes_from_its_own_on(tmp_path: Path) -> None:
    path = save_graph(tmp_path / "m.onnx", [node("Softmax", "x", "y", axis=1)], {}, (1, 4, 8, 8))
    model = onnx.load(path)
    assert analyze(path).layer("y").receptive_field.global_since is None
    model.opset_import[0].version = 12
    onnx.save_model(model, path)

    assert analyze(path).layer("y").receptive_field.global_since == "y"


def test_a_picture_with_channels_last_is_recognised_by_its_transpose(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", "x", "first", perm=[0, 3, 1, 2]),
        node("Conv", "first w", "y", strides=[2, 2]),
    ]
    report = _report(tmp_path, nodes, shape=(1, 12, 10, 3), w=weight(4, 3, 5, 3))

    assert _numbers(report.layer("y").receptive_field) == ((5, 3), (2, 2), (0, 0))


def test_an_einsum_over_channels_is_pointwise_and_over_space_global(tmp_path: Path) -> None:
    nodes = [
        node("Einsum", "x w", "mixed", equation="nchw,cd->ndhw"),
        node("Einsum", "mixed v", "y", equation="nchw,w->nch"),
    ]
    report = _report(tmp_path, nodes, w=weight(4, 6), v=weight(12))

    assert report.layer("mixed").receptive_field.global_since is None
    assert report.layer("y").receptive_field.size == (1, None)


@pytest.mark.parametrize(
    ("equation", "constant", "size"),
    [
        ("n...w,wv->n...v", (12, 4), (1, None)),
        ("...w,w->...w", (12,), (1, 1)),
        ("...chw,...c->...hw", (1, 4), (1, 1)),
        ("nc...,cd", (4, 3), (1, 1)),
        ("nchw,c", (4,), (1, 1)),
    ],
)
def test_an_einsum_with_an_ellipsis_or_without_an_arrow_is_followed(
    tmp_path: Path, equation: str, constant: tuple[int, ...], size: tuple[int | None, ...]
) -> None:
    nodes = [node("Einsum", "x v", "y", equation=equation)]
    layer = _report(tmp_path, nodes, v=weight(*constant)).layer("y")

    assert layer.receptive_field.size == size


def test_a_quantised_convolution_slides_like_a_float_one(tmp_path: Path) -> None:
    nodes = [
        node("QuantizeLinear", "x scale zero", "q"),
        node("QLinearConv", "q scale zero w scale zero scale zero", "c", pads=[1, 1, 1, 1]),
        node("DequantizeLinear", "c scale zero", "y"),
    ]
    scale, zero = np.array(0.1, np.float32), np.array(0, np.uint8)
    report = _report(tmp_path, nodes, scale=scale, zero=zero, w=np.ones((4, 4, 3, 3), np.uint8))

    assert _numbers(report.layer("y").receptive_field) == ((3, 3), (1, 1), (-1, -1))


def test_rows_picked_in_no_order_are_covered(tmp_path: Path) -> None:
    nodes = [node("Gather", "x rows", "y", axis=2)]
    report = _report(tmp_path, nodes, rows=_ints(5, 1, 7, 7))

    assert report.layer("y").receptive_field.size == (7, 1)


def test_patches_stay_local_beside_a_class_token(tmp_path: Path) -> None:
    network = models.VisionTransformer(
        image_size=16, patch_size=4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8
    )
    path = export(network, (2, 3, 16, 16), tmp_path / "vit.onnx")
    layers = analyze(path).layers
    tokens = [layer for layer in layers if layer.outputs[0].shape == ("batch", 17, 8)]
    class_token = next(layer for layer in layers[::-1] if layer.op_type == "Gather")

    assert {layer.status for layer in layers} == {"exact"}
    assert {_numbers(layer.receptive_field) for layer in tokens} == {((4, 4), (4, 4), (0, 0))}
    assert class_token.receptive_field.size is None
    assert class_token.receptive_field.global_since is not None
    assert verify(path, open_session, units=100).differences == ()


def test_the_tokens_behind_the_class_token_are_the_map_again(tmp_path: Path) -> None:
    report = _report(
        tmp_path,
        [
            node("Conv", "x w", "map", strides=[2, 2]),
            node("Reshape", "map flat", "patches"),
            node("Concat", "token patches", "tokens", axis=2),
            node("Slice", "tokens zero one rows", "token_again"),
            node("Slice", "tokens one end rows", "patches_again"),
            node("Reshape", "patches_again square", "map_again"),
            node("Add", "map_again token_again", "y"),
        ],
        shape=(1, 1, 8, 8),
        w=weight(1, 1, 2, 2), token=weight(1, 1, 1), flat=_ints(1, 1, 16), zero=_ints(0),
        one=_ints(1), end=_ints(2**31), rows=_ints(2), square=_ints(1, 1, 4, 4),
    )  # fmt: skip

    assert {layer.status for layer in report.layers} == {"exact"}
    for layer in ("tokens", "patches_again", "y"):
        assert _numbers(report.layer(layer).receptive_field) == ((2, 2), (2, 2), (0, 0))
    assert report.layer("token_again").receptive_field.size is None


def test_a_pad_and_a_slice_whose_bounds_are_computed_move_the_map(tmp_path: Path) -> None:
    """As PyTorch's older exporter pads and cuts what windows are to be made of."""
    report = _report(
        tmp_path,
        [
            node("Shape", "x", "shape"),
            node("Gather", "shape rows", "height"),
            node("Mod", "height five", "over"),
            node("Concat", "zeros over zeros zeros zero", "pads", axis=0),
            node("Pad", "x pads", "padded"),
            node("Slice", "padded over end rows", "y"),
        ],
        shape=(1, 1, 8, 8),
        rows=_ints(2), five=_ints(5), zero=_ints(0), zeros=_ints(0, 0), end=_ints(100),
    )  # fmt: skip

    assert _numbers(report.layer("padded").receptive_field) == ((1, 1), (1, 1), (-3, 0))
    assert _numbers(report.layer("y").receptive_field) == ((1, 1), (1, 1), (0, 0))
    assert {layer.status for layer in report.layers} == {"exact"}


def test_a_picture_without_a_batch_has_two_spatial_axes(tmp_path: Path) -> None:
    nodes = [
        node("Sub", "x mean", "centred"),
        node("Unsqueeze", "centred front", "batch"),
        node("Conv", "batch w", "output", kernel_shape=[3, 5]),
    ]

    report = _report(tmp_path, nodes, (3, 12, 12), mean=weight(3, 1, 1), front=_ints(0),
                     w=weight(2, 3, 3, 5))  # fmt: skip

    assert _numbers(report.layers[-1].receptive_field) == ((3, 5), (1, 1), (0, 0))
