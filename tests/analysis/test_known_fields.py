"""Receptive fields of published networks, from the literature and not from this code.

Source: Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks",
Distill 2019, and the arithmetic of the papers' own tables. The networks are skeletons: every
window of the original, on few channels.
"""

from pathlib import Path
from typing import Any

import onnx
import pytest

from convlens.analysis import ReceptiveField, analyze
from tests.analysis.graphs import Array, node, save_graph, weight


class _Skeleton:
    """A network of windows on one channel."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}

    def conv(self, source: str, kernel: int, stride: int = 1, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.weights[f"w{kernel}"] = weight(1, 1, kernel, kernel)
        attributes = attributes or {"pads": [kernel // 2] * 4}
        self.nodes.append(
            node("Conv", f"{source} w{kernel}", name, strides=[stride] * 2, **attributes)
        )
        return name

    def pool(self, source: str, kernel: int, stride: int, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(
            node(
                "MaxPool", source, name, kernel_shape=[kernel] * 2, strides=[stride] * 2,
                **attributes,
            )
        )  # fmt: skip
        return name

    def add(self, first: str, second: str) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(node("Add", f"{first} {second}", name))
        return name

    def fields(self, path: Path, size: int = 224) -> dict[str, ReceptiveField]:
        save_graph(path, self.nodes, self.weights, (1, 1, size, size))
        return {layer.name: layer.receptive_field for layer in analyze(path).layers}


def _numbers(field: ReceptiveField) -> tuple[Any, Any, Any]:
    assert field.size is not None
    assert field.stride is not None
    assert field.start is not None
    return field.size[0], field.stride[0], field.start[0]


def test_alexnet_sees_195_pixels_after_its_last_pool(tmp_path: Path) -> None:
    net = _Skeleton()
    layers = [net.conv("x", 11, 4, pads=[2] * 4)]
    layers.append(net.pool(layers[-1], 3, 2))
    layers.append(net.conv(layers[-1], 5))
    layers.append(net.pool(layers[-1], 3, 2))
    layers += [(last := net.conv(layers[-1], 3)), (last := net.conv(last, 3)), net.conv(last, 3)]
    layers.append(net.pool(layers[-1], 3, 2))
    fields = net.fields(tmp_path / "m.onnx")

    sizes = [_numbers(fields[layer])[0] for layer in layers]
    assert sizes == [11, 19, 51, 67, 99, 131, 163, 195]
    assert _numbers(fields[layers[-1]]) == (195, 32, -66)


def test_vgg16_sees_212_pixels_after_its_last_pool(tmp_path: Path) -> None:
    net, current, pools = _Skeleton(), "x", []
    for convolutions in (2, 2, 3, 3, 3):
        for _ in range(convolutions):
            current = net.conv(current, 3)
        current = net.pool(current, 2, 2)
        pools.append(current)
    fields = net.fields(tmp_path / "m.onnx")

    assert [_numbers(fields[pool])[0] for pool in pools] == [6, 16, 44, 100, 212]


def _bottleneck_resnet(blocks: tuple[int, ...]) -> tuple[_Skeleton, list[str]]:
    """The stride lies in the first block's 3x3, as torchvision has it."""
    net, ends = _Skeleton(), []
    current = net.pool(net.conv("x", 7, 2), 3, 2, pads=[1] * 4)
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            inner = net.conv(net.conv(net.conv(current, 1), 3, stride), 1)
            shortcut = net.conv(current, 1, stride) if block == 0 else current
            current = net.add(inner, shortcut)
        ends.append(current)
    return net, ends


def test_resnet50_sees_427_pixels(tmp_path: Path) -> None:
    net, stages = _bottleneck_resnet((3, 4, 6, 3))
    fields = net.fields(tmp_path / "m.onnx")

    assert _numbers(fields[stages[2]]) == (267, 16, -133)
    assert _numbers(fields[stages[3]]) == (427, 32, -213)
    assert fields[stages[3]].aligned


def test_resnet152_sees_1451_pixels(tmp_path: Path) -> None:
    net, stages = _bottleneck_resnet((3, 8, 36, 3))
    fields = net.fields(tmp_path / "m.onnx")

    assert _numbers(fields[stages[3]])[:2] == (1451, 32)


@pytest.mark.parametrize(("size", "start"), [(224, -239), (321, -241)])
def test_tf_slims_resnet50_sees_483_pixels(tmp_path: Path, size: int, start: int) -> None:
    """SAME padding, and the stride in the last unit of each block but the last."""
    net = _Skeleton()
    current = net.conv("x", 7, 2, pads=[3] * 4)
    current = net.pool(current, 3, 2, auto_pad="SAME_UPPER")
    for count, last_stride in ((3, 2), (4, 2), (6, 2), (3, 1)):
        for unit in range(count):
            stride = last_stride if unit == count - 1 else 1
            # Slim pads explicitly where it strides, so that the centre does not depend on the size.
            pads = {"pads": [1] * 4} if stride == 2 else {"auto_pad": "SAME_UPPER"}
            inner = net.conv(net.conv(current, 1), 3, stride, **pads)
            shortcut = current
            if unit == 0:
                shortcut = net.conv(current, 1)
            if stride == 2:
                shortcut = net.pool(shortcut, 1, 2)
            current = net.add(net.conv(inner, 1), shortcut)
    fields = net.fields(tmp_path / "m.onnx", size)

    assert _numbers(fields[current]) == (483, 32, start)


@pytest.mark.parametrize(
    ("expansions", "size", "start"),
    [
        # Kernel, stride and repeats of EfficientNet-B0's and MobileNetV2's stages.
        (((3, 1, 1), (3, 2, 2), (5, 2, 2), (3, 2, 3), (5, 1, 3), (5, 2, 4), (3, 1, 1)), 851, -425),
        (((3, 1, 1), (3, 2, 2), (3, 2, 3), (3, 2, 4), (3, 1, 3), (3, 2, 3), (3, 1, 1)), 491, -245),
    ],
)
def test_inverted_residuals_see_what_their_stages_say(
    tmp_path: Path, expansions: tuple[tuple[int, int, int], ...], size: int, start: int
) -> None:
    net = _Skeleton()
    current = net.conv("x", 3, 2)
    for kernel, stride, repeats in expansions:
        for repeat in range(repeats):
            inner = net.conv(current, kernel, stride if repeat == 0 else 1)
            current = net.add(inner, current) if repeat else inner
    fields = net.fields(tmp_path / "m.onnx")

    assert _numbers(fields[current]) == (size, 32, start)


def test_convnext_tiny_sees_1688_pixels(tmp_path: Path) -> None:
    net = _Skeleton()
    current = net.conv("x", 4, 4, pads=[0] * 4)
    for stage, blocks in enumerate((3, 3, 9, 3)):
        if stage:
            current = net.conv(current, 2, 2, pads=[0] * 4)
        for _ in range(blocks):
            current = net.add(net.conv(current, 7), current)
    fields = net.fields(tmp_path / "m.onnx")

    assert _numbers(fields[current]) == (1688, 32, -828)
