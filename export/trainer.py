"""The way of a user's own pictures into a file: read, split, learn, measure, export."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from convlens.analysis.card import ModelCard
from convlens.export.architecture import Architecture, Progress
from convlens.export.architectures import find_architecture
from convlens.export.errors import TrainingError
from convlens.export.examples import LARGEST_HELD_OUT, Examples, Split, split
from convlens.export.exporter import ExportResult, export_network
from convlens.export.files import require_writable
from convlens.export.head import give_classes, head_path, new_head
from convlens.export.labelled_pictures import (
    LabelledPictures,
    normalised,
    read_digits,
    read_folder,
)
from convlens.export.training import Recipe, compute, held_out_accuracy, train
from convlens.export.weights import DEFAULT, build, with_weights

DIGITS = "digits"

Report = Callable[[str, int, int], None]  # (what is being done, done, in all)

_PICTURES_A_PASS = 16  # through the layers below a head: what a photograph's maps take in memory
_LARGEST_BATCH = 64
_SMALLEST_BATCH = 8
_STEPS_AN_EPOCH = 8  # at least, where the smallest batch allows
_WHOLE = Recipe(epochs=60)
_HEAD = Recipe(epochs=100, peak_learning_rate=2e-3, largest_shift=0)


@dataclass(frozen=True)
class TrainingResult:
    """A network that has learnt, and the file that it is in.

    Attributes:
        export: the file.
        labels: the classes, by index.
        pictures: how many there were of each class, in the same order.
        training: how many were learnt from.
        validation: how many said when to stop.
        held_out: how many the score was measured on.
        epochs: how many it took.
        skipped: a line for each file that could not be read: its name, and why.
    """

    export: ExportResult
    labels: tuple[str, ...]
    pictures: tuple[int, ...]
    training: int
    validation: int
    held_out: int
    epochs: int
    skipped: tuple[str, ...]


def train_own(
    source: str,
    name: str,
    path: Path,
    *,
    epochs: int | None = None,
    seed: int = 0,
    held_out: float = 0.2,
    report: Report = lambda _what, _done, _total: None,
) -> TrainingResult:
    """Train an architecture on pictures of the user's own and export it.

    Where the architecture has pretrained weights, they stay as they are, and a new last layer is
    trained on the features that they give. Else the whole network is trained.

    Args:
        source: a folder with a folder for each class, or "digits" for scikit-learn's.
        name: one of `ARCHITECTURES`, or `package.module:function` of the user's own.
        path: of the file; one that exists is replaced once the new one is complete and proven.
        epochs: the most passes over the training part; 100 for a last layer, 60 for a network
            if None.
        seed: of the initialisation, the split and the training.
        held_out: the share of each class that is kept for the final score.
        report: called with (what is being done, done, total).

    Raises:
        TrainingError: nothing can be learnt from those pictures, or not by that network.
        UnknownArchitectureError: no architecture has that name.
        WeightsError: the pretrained weights cannot be had.
        ConversionError: the network cannot be turned into a graph.
        ParityError: the file would not compute what PyTorch computes.
        WriteError: the file cannot be written.
    """
    if not 0.0 < held_out <= LARGEST_HELD_OUT:
        raise TrainingError(
            f"the held-out share must be more than 0 and at most {LARGEST_HELD_OUT}, is {held_out}"
        )
    architecture = find_architecture(name)
    require_writable(path)
    how = architecture.preprocessing
    pictures = (
        read_digits(how)
        if source == DIGITS
        else read_folder(Path(source), how, partial(report, "reading"))
    )
    parts = split(pictures.labels, held_out, seed)
    learn = _learn_head if architecture.default_weights.pretrained else _learn_whole
    learnt = learn(architecture, pictures, parts, _Request(epochs, seed, report))
    exported = export_network(
        learnt.network,
        architecture.input_shape,
        path,
        ModelCard(
            preprocessing=how,
            labels=pictures.names,
            weights={
                "origin": "trained",
                "dataset": pictures.dataset,
                "accuracy": {"held_out_top1": learnt.accuracy},
                "held_out": len(parts.held_out),
                "seed": seed,
                "source": learnt.source,
            },
            model={"name": architecture.name, "family": architecture.family},
        ),
    )
    return TrainingResult(
        export=exported,
        labels=pictures.names,
        pictures=tuple(np.bincount(pictures.labels).tolist()),
        training=len(parts.training),
        validation=len(parts.validation),
        held_out=len(parts.held_out),
        epochs=learnt.epochs,
        skipped=pictures.skipped,
    )


@dataclass(frozen=True)
class _Request:
    epochs: int | None
    seed: int
    report: Report

    def recipe(self, usual: Recipe, examples: int) -> Recipe:
        """The usual one, with as many epochs as were asked for and batches for so few examples."""
        batch = min(_LARGEST_BATCH, max(_SMALLEST_BATCH, examples // _STEPS_AN_EPOCH))
        return replace(usual, epochs=self.epochs or usual.epochs, batch_size=batch)

    def progress(self, what: str) -> Progress:
        return partial(self.report, what)


@dataclass(frozen=True)
class _Learnt:
    network: nn.Module
    accuracy: float
    epochs: int
    source: str


def _learn_whole(
    architecture: Architecture, pictures: LabelledPictures, parts: Split, request: _Request
) -> _Learnt:
    network = build(architecture, request.seed)
    shape, classes = architecture.input_shape, len(pictures.names)
    give_classes(network, shape, classes, request.seed, architecture.name)
    examples = Examples(normalised(pictures.pixels, architecture.preprocessing), pictures.labels)
    epochs, accuracy = _fit(network, examples, parts, _WHOLE, request)
    return _Learnt(network, accuracy, epochs, "convlens.export.training")


def _learn_head(
    architecture: Architecture, pictures: LabelledPictures, parts: Split, request: _Request
) -> _Learnt:
    weighted = with_weights(architecture, DEFAULT, request.seed, request.progress("weights"))
    network, name = weighted.network, architecture.name
    path = head_path(network, name)
    head = new_head(network, path, len(pictures.names), request.seed)
    network.set_submodule(path, nn.Identity())
    features = _features(network, pictures, architecture, request.progress("features"))
    if features.shape[1:] != (head.in_features,):
        raise TrainingError(f"{name} cannot be given other classes: its head is not its last layer")
    epochs, accuracy = _fit(head, Examples(features, pictures.labels), parts, _HEAD, request)
    network.set_submodule(path, head)
    source = f"a new head on the weights of {weighted.provenance['source']}"
    return _Learnt(network, accuracy, epochs, source)


def _features(
    network: nn.Module, pictures: LabelledPictures, architecture: Architecture, progress: Progress
) -> NDArray[np.float32]:
    """What the layers below the head make of each picture, computed once for all epochs."""
    parts = []
    for start in range(0, len(pictures), _PICTURES_A_PASS):
        pixels = pictures.pixels[start : start + _PICTURES_A_PASS]
        inputs = normalised(pixels, architecture.preprocessing)
        parts.append(compute(network, inputs).numpy())
        progress(start + len(pixels), len(pictures))
    return np.concatenate(parts)


def _fit(
    network: nn.Module, examples: Examples, parts: Split, usual: Recipe, request: _Request
) -> tuple[int, float]:
    """Train on one part, stop by another; the epochs and the accuracy on the third."""
    epochs = train(
        network,
        examples.select(parts.training),
        request.recipe(usual, len(parts.training)),
        request.seed,
        request.progress("training"),
        examples.select(parts.validation),
    )
    return epochs, held_out_accuracy(network, examples.select(parts.held_out))
