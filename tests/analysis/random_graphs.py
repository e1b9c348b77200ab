"""Random networks for the property tests: whatever hypothesis draws, onnxruntime can run it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st

from tests.analysis.graphs import Array, node, save_graph, weight

_CHANNELS = 4
_MAX_SIZE = 26


@dataclass
class RandomNetwork:
    """A network under construction; the current map is (1, channels, height, width).

    Attributes:
        draw: hypothesis's source of choices.
        size: (height, width) of the picture.
    """

    draw: Callable[[st.SearchStrategy[Any]], Any]
    size: tuple[int, int]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.current, self.channels = "x", _CHANNELS
        self.shape: tuple[int, ...] = self.size

    def save(self, path: Path) -> Path:
        if not self.nodes:
            self.add("Relu", "x")
        return save_graph(path, self.nodes, self.constants, (1, _CHANNELS, *self.size))

    def add(self, op_type: str, inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(node(op_type, inputs, name, **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values, dtype)
        return name

    def integer(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def choice(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    # What follows draws one operator or block and moves `current` on; one that does not fit the
    # map's size leaves it as it is.

    def window(self) -> dict[str, Any] | None:
        """Attributes of a window whose pads never hold all of it; sets the new shape."""
        kernel = [self.integer(1, 4) for _ in range(2)]
        dilations = [self.integer(1, 2) for _ in range(2)]
        strides = [self.integer(1, 2) for _ in range(2)]
        extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
        begin, end = ([self.integer(0, min(2, k - 1)) for k in kernel] for _ in range(2))
        rooms = [
            size + b + e - extent
            for size, b, e, extent in zip(self.shape, begin, end, extents, strict=True)
        ]
        if min(rooms) < 0:
            return None
        self.shape = tuple(room // s + 1 for room, s in zip(rooms, strides, strict=True))
        return {
            "kernel_shape": kernel,
            "dilations": dilations,
            "strides": strides,
            "pads": begin + end,
        }

    def conv(self) -> None:
        attributes = self.window()
        if attributes is None:
            return
        groups = self.choice(1, 1, 2, self.channels) if self.channels % 2 == 0 else 1
        w = self.constant(
            weight(_CHANNELS, self.channels // groups, *attributes["kernel_shape"]), np.float32
        )
        if _CHANNELS % groups:
            groups = 1
            self.constants[w] = weight(_CHANNELS, self.channels, *attributes["kernel_shape"])
        self.current = self.add("Conv", f"{self.current} {w}", group=groups, **attributes)
        self.channels = _CHANNELS

    def pointwise_conv(self) -> None:
        w = self.constant(weight(_CHANNELS, self.channels, 1, 1), np.float32)
        self.current, self.channels = self.add("Conv", f"{self.current} {w}"), _CHANNELS

    def pool(self) -> None:
        attributes = self.window()
        if attributes is not None:
            op_type = self.choice("MaxPool", "AveragePool")
            self.current = self.add(op_type, self.current, **attributes)

    def conv_transpose(self) -> None:
        strides = [self.integer(1, 2) for _ in range(2)]
        kernel = [self.integer(s, 4) for s in strides]
        pads = [self.integer(0, (k - s) // 2) for k, s in zip(kernel, strides, strict=True)]
        shape = tuple(
            (size - 1) * s + k - 2 * p
            for size, s, k, p in zip(self.shape, strides, kernel, pads, strict=True)
        )
        if max(shape) > _MAX_SIZE or min(shape) < 1:
            return
        w = self.constant(weight(self.channels, _CHANNELS, *kernel), np.float32)
        self.current = self.add(
            "ConvTranspose", f"{self.current} {w}", strides=strides, pads=pads * 2
        )
        self.channels, self.shape = _CHANNELS, shape

    def resize(self) -> None:
        scales = [self.choice(0.5, 1.0, 1.5, 2.0, 3.0) for _ in range(2)]
        shape = tuple(int(size * scale) for size, scale in zip(self.shape, scales, strict=True))
        if max(shape) > _MAX_SIZE or min(shape) < 1:
            return
        mode = self.choice("nearest", "linear", "cubic")
        attributes = {
            "mode": mode,
            "coordinate_transformation_mode": self.choice(
                "half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"
            ),
        }
        if mode == "nearest":
            attributes["nearest_mode"] = self.choice(
                "floor", "ceil", "round_prefer_floor", "round_prefer_ceil"
            )
        elif attributes["coordinate_transformation_mode"] == "half_pixel":
            attributes["antialias"] = self.choice(0, 1)
        factors = self.constant([1, 1, *scales], np.float32)
        self.current, self.shape = self.add("Resize", f"{self.current}  {factors}"), shape
        self.nodes[-1].input[:] = [self.nodes[-1].input[0], "", factors]
        self.nodes[-1].attribute.extend(
            onnx.helper.make_attribute(name, value) for name, value in attributes.items()
        )

    def pad(self) -> None:
        mode = self.choice("constant", "edge", "reflect")
        limits = [2 if mode == "constant" else min(2, size - 1) for size in self.shape]
        pads = [self.integer(0, limit) for limit in limits * 2]
        listed = self.constant([0, 0, *pads[:2], 0, 0, *pads[2:]])
        self.current = self.add("Pad", f"{self.current} {listed}", mode=mode)
        self.shape = (self.shape[0] + pads[0] + pads[2], self.shape[1] + pads[1] + pads[3])

    def slice(self) -> None:
        axis, step = self.integer(0, 1), self.choice(1, 2, -1)
        size = self.shape[axis]
        if size < 4:
            return
        begin, end = self.integer(0, 2), size - self.integer(0, 1)
        bounds = (begin, end) if step > 0 else (end - 1, begin - size - 1)
        starts, ends, axes, steps = (self.constant([n]) for n in (*bounds, axis + 2, step))
        self.current = self.add("Slice", f"{self.current} {starts} {ends} {axes} {steps}")
        length = len(range(begin, end, abs(step)))
        self.shape = (length, self.shape[1]) if axis == 0 else (self.shape[0], length)

    def gather(self) -> None:
        axis = self.integer(0, 1)
        size = self.shape[axis]
        indices = [self.integer(-size, size - 1) for _ in range(self.integer(2, 5))]
        listed = self.constant(indices)
        self.current = self.add("Gather", f"{self.current} {listed}", axis=axis + 2)
        shape = list(self.shape)
        shape[axis] = len(indices)
        self.shape = (shape[0], shape[1])

    def spatial_concat(self) -> None:
        axis = self.integer(0, 1)
        if 2 * self.shape[axis] > _MAX_SIZE:
            return
        other = self.add("Relu", self.current)
        self.current = self.add("Concat", f"{self.current} {other}", axis=axis + 2)
        shape = list(self.shape)
        shape[axis] *= 2
        self.shape = (shape[0], shape[1])

    def residual(self) -> None:
        """Two branches of the same stride, added or concatenated along the channels."""
        before = self.current
        strides = [self.integer(1, 2) for _ in range(2)]
        wide = self.constant(weight(self.channels, self.channels, 3, 3), np.float32)
        narrow = self.constant(weight(self.channels, self.channels, 1, 1), np.float32)
        left = self.add("Conv", f"{before} {wide}", pads=[1, 1, 1, 1], strides=strides)
        right = self.add("Conv", f"{before} {narrow}", strides=strides)
        self.shape = tuple(-(-size // s) for size, s in zip(self.shape, strides, strict=True))
        if self.choice(True, False) or self.channels > 2 * _CHANNELS:
            self.current = self.add(self.choice("Add", "Mul", "Max"), f"{left} {right}")
        else:
            self.current = self.add("Concat", f"{left} {right}", axis=1)
            self.channels *= 2

    def skip_over_halving(self) -> None:
        """A U-Net's step: down by a pool, up by a resize, joined with what came before."""
        height, width = self.shape
        if height < 2 or width < 2:
            return
        sizes = self.constant([1, self.channels, height, width])
        down = self.add("MaxPool", self.current, kernel_shape=[2, 2], strides=[2, 2])
        up = self.add("Resize", down, mode=self.choice("nearest", "linear"))
        self.nodes[-1].input.extend(["", "", sizes])
        self.current = self.add("Add", f"{self.current} {up}")

    def channel_split(self) -> None:
        if self.channels % 2:
            return
        name = f"n{len(self.nodes)}"
        self.nodes.append(
            onnx.helper.make_node(
                "Split", [self.current], [name, f"{name}b"], name=name, axis=1, num_outputs=2
            )
        )
        half = self.channels // 2
        w = self.constant(weight(half, half, 3, 1), np.float32)
        conv = self.add("Conv", f"{name}b {w}", pads=[1, 0, 1, 0])
        self.current = self.add("Concat", f"{name} {conv}", axis=1)

    def channel_shuffle(self) -> None:
        if self.channels % 2:
            return
        apart = self.constant([1, 2, self.channels // 2, *self.shape])
        together = self.constant([1, self.channels, *self.shape])
        split = self.add("Reshape", f"{self.current} {apart}")
        swapped = self.add("Transpose", split, perm=[0, 2, 1, 3, 4])
        self.current = self.add("Reshape", f"{swapped} {together}")

    def space_to_depth(self) -> None:
        if self.shape[0] % 2 or self.shape[1] % 2 or self.channels > _CHANNELS:
            return
        self.current = self.add("SpaceToDepth", self.current, blocksize=2)
        self.channels *= 4
        self.shape = (self.shape[0] // 2, self.shape[1] // 2)
        # As a rule: what slides over blocks that lie in the channels is known but roughly.
        self.pointwise_conv()

    def depth_to_space(self) -> None:
        if self.channels % 4 or 2 * max(self.shape) > _MAX_SIZE:
            return
        mode = self.choice("DCR", "CRD")
        self.current = self.add("DepthToSpace", self.current, blocksize=2, mode=mode)
        self.channels //= 4
        self.shape = (self.shape[0] * 2, self.shape[1] * 2)

    def transpose(self) -> None:
        self.current = self.add("Transpose", self.current, perm=[0, 1, 3, 2])
        self.shape = self.shape[::-1]

    def channels_last(self) -> None:
        """ConvNeXt's normalisation and mixing of channels between two transposes."""
        scale = self.constant(weight(self.channels), np.float32)
        mix = self.constant(weight(self.channels, _CHANNELS), np.float32)
        last = self.add("Transpose", self.current, perm=[0, 2, 3, 1])
        norm = self.add("LayerNormalization", f"{last} {scale}", axis=-1)
        mixed = self.add("MatMul", f"{norm} {mix}")
        self.current = self.add("Transpose", mixed, perm=[0, 3, 1, 2])
        self.channels = _CHANNELS

    def gate(self) -> None:
        """Squeeze and excitation."""
        squeezed = self.add("GlobalAveragePool", self.current)
        gate = self.add("Sigmoid", squeezed)
        self.current = self.add("Mul", f"{self.current} {gate}")

    def normalisation(self) -> None:
        scale = self.constant(weight(self.channels), np.float32)
        self.current = self.add("InstanceNormalization", f"{self.current} {scale} {scale}")

    def row_statistics(self) -> None:
        """The mean over the width: global along it, local along the height."""
        axes = self.constant([3])
        mean = self.add("ReduceMean", f"{self.current} {axes}")
        self.current = self.add("Sub", f"{self.current} {mean}")

    def tile(self) -> None:
        if 2 * self.shape[0] > _MAX_SIZE:
            return
        self.current = self.add("Tile", f"{self.current} {self.constant([1, 1, 2, 1])}")
        self.shape = (2 * self.shape[0], self.shape[1])


STEPS = (
    "conv", "conv", "pointwise_conv", "pool", "conv_transpose", "resize", "pad", "slice", "gather",
    "spatial_concat", "residual", "skip_over_halving", "channel_split", "channel_shuffle",
    "space_to_depth", "depth_to_space", "transpose", "channels_last", "gate", "normalisation",
    "row_statistics", "tile",
)  # fmt: skip


@st.composite
def random_networks(draw: Any) -> RandomNetwork:
    """Networks of a few operators or blocks on a small picture."""
    network = RandomNetwork(draw, (draw(st.integers(9, 16)), draw(st.integers(9, 16))))
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6)):
        getattr(network, step)()
    return network
