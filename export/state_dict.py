"""State dicts: read without executing what they pickle, and fitted to a network without slack."""

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from convlens.export.errors import WeightsError

_KEYS_SHOWN = 5


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a network's state dict from a file of `torch.save`, or of safetensors by its suffix.

    Raises:
        WeightsError: it is missing, or not a state dict.
    """
    try:
        content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        found = f"; it has {_some(map(str, content))}" if isinstance(content, Mapping) else ""
        raise WeightsError(f"{path} holds no state dict, names mapped to tensors{found}")
    return dict(content)


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever any other file makes of the unpickler
        if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path):
            raise WeightsError(
                f"{path} holds more than tensors, and is not executed: save the weights alone, by "
                "torch.save(network.state_dict(), FILE)"
            ) from error
        raise WeightsError(f"{path} is not a file of weights that torch.save wrote") from error


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from error


def load_exactly(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Fill `network` with `state`, each tensor used once and none left over.

    Args:
        network: changed in place.
        state: by the network's own names.
        source: what an error calls the state.

    Raises:
        WeightsError: keys are missing, unexpected, or of another shape.
    """
    own = network.state_dict()
    # A count of training batches, which inference does not read and old checkpoints lack.
    needed = {name for name in own if not name.endswith(".num_batches_tracked")}
    wrong_shape = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if state[name].shape != own[name].shape
    ]
    complaints = {
        "missing": sorted(needed - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": wrong_shape,
    }
    if any(complaints.values()):
        listed = "; ".join(f"{what}: {_some(keys)}" for what, keys in complaints.items() if keys)
        raise WeightsError(f"{source} does not fit the network: {listed}")
    network.load_state_dict({**own, **state})


def _some(keys: Iterable[str]) -> str:
    listed = list(keys)
    more = len(listed) - _KEYS_SHOWN
    return ", ".join(listed[:_KEYS_SHOWN]) + (f" and {more} more" if more > 0 else "")
