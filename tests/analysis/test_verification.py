from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.resnet import BasicBlock

from convlens.analysis.errors import VerificationError
from convlens.analysis.graph_reader import read_graph
from convlens.analysis.measurement import Sighting, Unit
from convlens.analysis.reach import strided_reach
from convlens.analysis.receptive_field import trace_fields
from convlens.analysis.shapes import infer_shapes
from convlens.analysis.verification import field_differences, verify
from convlens.cli.runtime import open_session
from tests.analysis.conftest import export
from tests.analysis.fuzzing import fuzzed
from tests.analysis.graphs import node, save_graph, save_wrong_shape, weight
from tests.analysis.random_graphs import RandomNetwork, random_networks

_ALL = 10**6


@pytest.mark.fuzz
@fuzzed(60)
@given(network=random_networks())
def test_every_unit_of_a_random_network_sees_what_was_computed(
    tmp_path: Path, network: RandomNetwork
) -> None:
    verification = verify(network.save(tmp_path / "m.onnx"), open_session, units=_ALL)

    assert verification.differences == ()
    assert verification.not_compared == ()


def _residual_network() -> nn.Module:
    network: nn.Module = models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5)
    return network


def _dense_network() -> nn.Module:
    network: nn.Module = models.DenseNet(
        growth_rate=4, block_config=(2, 2), num_init_features=8, num_classes=5
    )
    return network


def _convnext() -> nn.Module:
    network: nn.Module = models.ConvNeXt(
        [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=5
    )
    return network


def _efficientnet() -> nn.Module:
    settings = [
        MBConvConfig(1, 3, 1, 32, 16, 1, 0.5, 1.0),
        MBConvConfig(6, 5, 2, 16, 24, 1, 0.5, 1),
    ]
    network: nn.Module = models.EfficientNet(settings, dropout=0.0, num_classes=5)
    return network


def _shufflenet() -> nn.Module:
    network: nn.Module = models.ShuffleNetV2([2, 1, 1], [8, 16, 32, 64, 64], num_classes=5)
    return network


def _squeezenet() -> nn.Module:
    network: nn.Module = models.SqueezeNet("1_1", num_classes=5)
    return network


@pytest.mark.parametrize(
    "build",
    [_residual_network, _dense_network, _convnext, _efficientnet, _shufflenet, _squeezenet],
)
def test_a_small_network_of_each_family_is_as_computed(
    tmp_path: Path, build: Callable[[], nn.Module]
) -> None:
    path = export(build(), (2, 3, 48, 48), tmp_path / "m.onnx")
    verification = verify(path, open_session)

    assert verification.differences == ()
    assert verification.not_compared == ()
    assert verification.shapes > 20
    assert verification.units > 50


def test_lenet5_is_as_computed(lenet5: Path) -> None:
    verification = verify(lenet5, open_session)

    assert verification.holds
    assert verification.shapes == 12


def test_a_wrong_receptive_field_is_noticed(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "y", pads=[1, 1, 1, 1])]
    path = save_graph(tmp_path / "m.onnx", nodes, {"w": weight(1, 1, 3, 3)}, (1, 1, 8, 8))
    graph = read_graph(onnx.load(path).graph)
    tensors = infer_shapes(onnx.load(path), graph).tensors
    right = trace_fields(graph, tensors, exact=True)
    view = right["y"].views[0]
    assert view is not None
    wrong = {"y": right["y"].with_view(0, view.through(strided_reach(-1), 8))}
    roughly = {"y": wrong["y"].with_views(lambda known: replace(known, extents=None))}
    centre = {Unit("y", (4, 4)): Sighting(3, 5)}

    assert list(field_differences(centre, right, 0)) == []
    assert list(field_differences(centre, wrong, 0)) == [
        "y[4, 4], image axis 0: sees pixels 3 to 5 in a run, and was computed to see pixels 2 to 4"
    ]
    assert list(field_differences(centre, roughly, 0)) == [
        "y[4, 4], image axis 0: sees pixels 3 to 5 in a run, which is not its receptive field"
    ]


def test_a_wrong_shape_is_noticed(tmp_path: Path) -> None:
    path = save_wrong_shape(tmp_path / "m.onnx")
    assert verify(path, open_session).differences == (
        "y: the shape is 4,48 in a run, and was computed as 4,47",
    )


def test_units_in_the_padding_see_nothing_and_agree(tmp_path: Path) -> None:
    pads = np.array([0, 0, 3, 0, 0, 0, 0, 2], dtype=np.int64)
    path = save_graph(
        tmp_path / "m.onnx", [node("Pad", "x pads", "y")], {"pads": pads}, (1, 1, 5, 6)
    )
    assert verify(path, open_session, units=_ALL).holds


def test_the_largest_of_a_window_in_the_padding_alone_sees_nothing(tmp_path: Path) -> None:
    """A dilated window of two that steps over the only column there is."""
    around = node("MaxPool", "x", "y", kernel_shape=[1, 2], dilations=[1, 2], pads=[0, 1, 0, 1])
    path = save_graph(tmp_path / "m.onnx", [around], {}, (1, 1, 4, 1))
    assert verify(path, open_session, units=_ALL).holds


def test_a_branch_that_lies_in_the_padding_along_one_axis_adds_nothing_along_the_other(
    tmp_path: Path,
) -> None:
    constants = {
        "pads": np.array([0, 0, 0, 0, 0, 0, 0, 1], np.int64),
        "size": np.array([1, 1, 9, 10], np.int64),
    }
    nodes = [
        node("Pad", "x pads", "padded"),
        node("MaxPool", "padded", "pool", kernel_shape=[2, 2], strides=[2, 2]),
        onnx.helper.make_node("Resize", ["pool", "", "", "size"], ["up"], mode="nearest"),
        node("Add", "padded up", "sum"),
        # Along the width it is global: what it adds is local along the height alone.
        node("ReduceMean", "padded last", "mean"),
        node("Sub", "padded mean", "difference"),
        node("Conv", "difference w", "y", strides=[2, 1]),
    ]
    constants |= {"last": np.array([3], np.int64), "w": weight(1, 1, 1, 1)}
    path = save_graph(tmp_path / "m.onnx", nodes, constants, (1, 1, 9, 9))
    assert verify(path, open_session, units=_ALL).differences == ()


def test_a_symbolic_picture_must_be_given_a_size(tmp_path: Path) -> None:
    path = save_graph(tmp_path / "m.onnx", [node("Relu", "x", "y")], {}, ("n", 1, "h", "w"))

    with pytest.raises(VerificationError, match="--input-size"):
        verify(path, open_session)
    assert verify(path, open_session, input_size=(5, 7)).holds


def test_what_is_not_understood_is_said_not_to_be_compared(tmp_path: Path) -> None:
    nodes = [node("GridSample", "x grid", "strange"), node("Relu", "strange", "y")]
    weights = {"grid": weight(1, 8, 8, 2)}
    path = save_graph(tmp_path / "m.onnx", nodes, weights, (1, 1, 8, 8))
    verification = verify(path, open_session)

    assert verification.holds
    assert verification.not_compared == (
        "the receptive fields of 1 layers, strange the first of them",
    )
