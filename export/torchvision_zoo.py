"""Torchvision's registry: its classifiers, its published weights, and what it says of them."""

import math
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import torchvision
from torch import nn

from convlens.analysis.card import Preprocessing
from convlens.export.architecture import (
    Architecture,
    Cost,
    DefaultWeights,
    Progress,
    PublishedWeights,
)
from convlens.export.errors import WeightsError
from convlens.export.state_dict import load_exactly

# How torchvision's names begin, the longer beginning first, and what the line is called.
_FAMILIES = {
    "alexnet": "AlexNet",
    "vgg": "VGG",
    "resnext": "ResNeXt",
    "resnet": "ResNet",
    "wide_resnet": "Wide ResNet",
    "efficientnet_v2": "EfficientNetV2",
    "efficientnet": "EfficientNet",
    "convnext": "ConvNeXt",
}
_DATASET = "ImageNet-1K"


def torchvision_architectures() -> tuple[Architecture, ...]:
    """Every classifier of the families above that this release of torchvision can build."""
    return tuple(
        _architecture(name, family)
        for prefix, family in _FAMILIES.items()
        for name in _in_order_of_size(_classifiers())
        if _family_prefix(name) == prefix
    )


def imagenet_labels() -> tuple[str, ...]:
    """The names of ImageNet's thousand classes."""
    return tuple(_default("resnet18").meta["categories"])


def _architecture(name: str, family: str) -> Architecture:
    default, published = _default(name), _classifying(name)
    names = ", ".join([default.name, *(one.name for one in published if one is not default)])
    return Architecture(
        name=name,
        family=family,
        build=torchvision.models.get_model_builder(name),
        preprocessing=_preprocessing(default),
        labels=tuple(default.meta["categories"]),
        default_weights=_loadable(default, f"torchvision's {names}"),
        published_cost=Cost(
            parameters=default.meta["num_params"], macs=round(default.meta["_ops"] * 1e9)
        ),
        published_weights={
            one.name: PublishedWeights(
                _loadable(one, f"torchvision's {one.name}"), _preprocessing(one)
            )
            for one in published
        },
    )


def _classifying(name: str) -> list[Any]:
    """Less those whose last layers are a placeholder, for which no accuracy is stated."""
    published = torchvision.models.get_model_weights(name)
    return [one for one in published if not math.isnan(one.meta["_metrics"][_DATASET]["acc@1"])]


def _loadable(weights: Any, summary: str) -> DefaultWeights:
    def load(network: nn.Module, _seed: int, _progress: Progress) -> Mapping[str, Any]:
        return _load(weights, network)

    return DefaultWeights(summary, load, pretrained=True)


def _load(weights: Any, network: nn.Module) -> Mapping[str, Any]:
    """Fill `network` with published weights, from torchvision's cache or from the net.

    Returns:
        What the model card says of the weights, the accuracy that torchvision states included.

    Raises:
        WeightsError: they are neither cached nor to be downloaded, or damaged.
    """
    try:
        # The loader announces each download, on stdout or stderr by its release: stdout is for
        # results, and on stderr a failure has one line to itself.
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            state = weights.get_state_dict(progress=False, check_hash=True, map_location="cpu")
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"cannot get torchvision's weights {weights} from {weights.url}: {error}; "
            f"those of efficientnet_lite0 come with its package, and random ones need no download"
        ) from error
    load_exactly(network, state, f"torchvision's {weights}")
    metrics = weights.meta["_metrics"][_DATASET]
    return {
        "origin": "torchvision",
        "dataset": _DATASET,
        "accuracy": {
            "top1": round(metrics["acc@1"] / 100, 5),
            "top5": round(metrics["acc@5"] / 100, 5),
        },
        "source": f"torchvision {weights}",
    }


def _preprocessing(weights: Any) -> Preprocessing:
    """How the published weights want their pictures."""
    transforms = weights.transforms()
    (resize,), (crop,) = transforms.resize_size, transforms.crop_size
    return Preprocessing(
        color="RGB",
        resize=resize,
        interpolation=transforms.interpolation.value,
        antialias=transforms.antialias,
        crop=(crop, crop),
        scale=1 / 255,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        layout="NCHW",
    )


def _classifiers() -> list[str]:
    # Only this module's own: detection, segmentation and quantisation have modules of their own.
    return list(torchvision.models.list_models(module=torchvision.models))


def _in_order_of_size(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: _default(name).meta["num_params"])


def _family_prefix(name: str) -> str | None:
    return next((prefix for prefix in _FAMILIES if name.startswith(prefix)), None)


def _default(name: str) -> Any:
    return torchvision.models.get_model_weights(name).DEFAULT
