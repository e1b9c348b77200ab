"""Torchvision's registry: its networks, its published weights, and what it says of them."""

from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import torchvision
from torch import nn

from convlens.analysis.card import Preprocessing
from convlens.export.errors import WeightsError
from convlens.export.state_dict import load_exactly


def builder(name: str) -> Callable[[], nn.Module]:
    """What builds the network of that name, freshly initialised."""
    build: Callable[[], nn.Module] = torchvision.models.get_model_builder(name)
    return build


def preprocessing(name: str) -> Preprocessing:
    """How the published weights of that network want their pictures."""
    transforms: Any = _published(name).transforms()
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


def labels(name: str) -> tuple[str, ...]:
    """The names of the classes that the published weights of that network tell apart."""
    return tuple(_published(name).meta["categories"])


def load_published_weights(name: str, network: nn.Module) -> Mapping[str, Any]:
    """Fill `network` with torchvision's published weights, from its cache or from the net.

    Returns:
        What the model card says of the weights, the accuracy that torchvision states included.

    Raises:
        WeightsError: they are neither cached nor to be downloaded, or damaged.
    """
    weights = _published(name)
    try:
        # The loader announces each download on stderr, where a failure has one line to itself.
        with redirect_stderr(StringIO()):
            state = weights.get_state_dict(progress=False, check_hash=True, map_location="cpu")
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"cannot get torchvision's weights {weights} from {weights.url}: {error}; "
            f"random weights need no download"
        ) from error
    load_exactly(network, state, f"torchvision's {weights}")
    ((dataset, metrics),) = weights.meta["_metrics"].items()
    return {
        "origin": "torchvision",
        "dataset": dataset,
        "accuracy": {
            "top1": round(metrics["acc@1"] / 100, 5),
            "top5": round(metrics["acc@5"] / 100, 5),
        },
        "source": f"torchvision {weights}",
    }


def _published(name: str) -> Any:
    return torchvision.models.get_model_weights(name).DEFAULT
