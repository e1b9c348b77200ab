"""A network with the weights that were asked for, and what the model card says of them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convlens.export.architecture import Architecture, Progress
from convlens.export.errors import WeightsError
from convlens.export.random_weights import scale_to_pictures
from convlens.export.state_dict import load_exactly, read_state_dict

DEFAULT = "default"
RANDOM = "random"


@dataclass(frozen=True)
class WeightedNetwork:
    """A network in evaluation mode, and where its weights came from.

    Attributes:
        network: ready to be exported.
        provenance: the model card's part on weights: origin, seed, dataset, accuracy, source.
    """

    network: nn.Module
    provenance: Mapping[str, Any]


def with_weights(
    architecture: Architecture, weights: str, seed: int, progress: Progress
) -> WeightedNetwork:
    """Build the architecture's network and give it weights.

    Args:
        architecture: what to build.
        weights: "default", "random", or the path of a state dict that `torch.save` or
            safetensors wrote.
        seed: of the initialisation, and of the training where there is one.
        progress: told how far a training is.

    Raises:
        WeightsError: the weights cannot be had, or do not fit the network.
    """
    network = build(architecture, seed)
    if weights == DEFAULT:
        provenance = architecture.default_weights.load(network, seed, progress)
    elif weights == RANDOM:
        scale_to_pictures(network, architecture.input_shape, seed)
        provenance = {"origin": "random", "seed": seed}
    else:
        _require_file(architecture, weights)
        provenance = _load_file(network, Path(weights))
    return WeightedNetwork(network.eval(), provenance)


def build(architecture: Architecture, seed: int) -> nn.Module:
    """The architecture's network, freshly initialised, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architecture.build().eval()


def _require_file(architecture: Architecture, weights: str) -> None:
    if not Path(weights).exists():
        names = ", ".join((DEFAULT, RANDOM, *architecture.published_weights))
        raise WeightsError(
            f"there is no file {weights}, and by name {architecture.name} has the weights {names}"
        )


def _load_file(network: nn.Module, path: Path) -> Mapping[str, Any]:
    load_exactly(network, read_state_dict(path), str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # The name alone: a model file must not carry paths of the machine that it was made on.
    return {"origin": "file", "source": path.name, "sha256": digest}
