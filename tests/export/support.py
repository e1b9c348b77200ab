"""What the export tests share: an exported file beside its network, and photographs as inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torchvision.transforms.functional import center_crop

from convlens.analysis.card import Preprocessing
from convlens.export import ExportResult, find_architecture
from convlens.export.exporter import export_weighted
from convlens.export.weights import with_weights

Run = Callable[[NDArray[np.float32]], NDArray[Any]]


@dataclass(frozen=True)
class Exported:
    """A file, the same network built apart from it, and a way to run the file."""

    result: ExportResult
    network: nn.Module
    run: Run


def export(name: str, weights: str, folder: Path) -> Exported:
    architecture = find_architecture(name)
    weighted = with_weights(architecture, weights, 0, lambda _done, _total: None)
    result = export_weighted(architecture, weighted, folder / f"{name}.onnx")
    return Exported(result, weighted.network, runner(result.path))


def build(name: str, weights: str, seed: int = 0) -> nn.Module:
    return with_weights(find_architecture(name), weights, seed, lambda _done, _total: None).network


def runner(model: Path | bytes) -> Run:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])

    def run(inputs: NDArray[np.float32]) -> NDArray[Any]:
        (outputs,) = session.run(["logits"], {"input": inputs})
        return np.asarray(outputs)

    return run


def photograph_input(path: Path, how: Preprocessing) -> NDArray[np.float32]:
    """A photograph as the model card wants it: (1, channels, height, width)."""
    assert isinstance(how.resize, int)
    with Image.open(path) as picture:
        width, height = picture.size
        shorter = min(width, height)
        size = (how.resize * width // shorter, how.resize * height // shorter)
        resized = picture.convert(how.color).resize(
            size, Image.Resampling[how.interpolation.upper()]
        )
    pixels = np.asarray(center_crop(resized, list(how.size)))
    values = (pixels * how.scale - np.array(how.mean)) / np.array(how.std)
    inputs: NDArray[np.float32] = values.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
    return inputs
