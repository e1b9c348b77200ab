"""A network's last layer: what turns features into classes."""

import numpy as np
import torch
from torch import nn

from convlens.export.errors import ConversionError, TrainingError
from convlens.export.parity import torch_outputs


def head_path(network: nn.Module, name: str) -> str:
    """Where the network's last fully connected layer is, as `get_submodule` takes it.

    Args:
        network: of the field's usual kind, which declares its layers in their order.
        name: of the network, for the error.

    Raises:
        TrainingError: it has no such layer.
    """
    paths: list[str] = [
        path for path, layer in network.named_modules() if isinstance(layer, nn.Linear)
    ]
    if not paths or not paths[-1]:
        raise TrainingError(f"{name} cannot be given other classes: no layer of it can be replaced")
    return paths[-1]


def new_head(network: nn.Module, path: str, classes: int, seed: int) -> nn.Linear:
    """A layer for other classes, freshly initialised, on the features that the one there takes."""
    old = network.get_submodule(path)
    assert isinstance(old, nn.Linear)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(old.in_features, classes)


def give_classes(
    network: nn.Module, shape: tuple[int, int, int], classes: int, seed: int, name: str
) -> None:
    """Let the network give that many logits, by a new last layer unless it gives as many already.

    Args:
        network: changed in place, and left in evaluation mode.
        shape: (channels, height, width) of one picture.
        classes: how many.
        seed: of the new layer.
        name: of the network, for the error.

    Raises:
        ConversionError: the network cannot take such pictures, or gives no rows of classes.
        TrainingError: the network's classes are not from its last fully connected layer.
    """
    picture = np.zeros((1, *shape), dtype=np.float32)
    if torch_outputs(network.eval(), picture).shape == (1, classes):
        return
    path = head_path(network, name)
    network.set_submodule(path, new_head(network, path, classes, seed))
    line = f"{name} cannot be given {classes} classes: they are not from a fully connected layer"
    try:
        given = torch_outputs(network.eval(), picture).shape
    except ConversionError as error:  # the layers no longer fit each other
        raise TrainingError(line) from error
    if given != (1, classes):
        raise TrainingError(line)
