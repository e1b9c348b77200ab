from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from convlens.analysis.card import ModelCard
from convlens.export.bundle import BUNDLED, bundled_digits
from convlens.export.digits import load_digits, split_digits
from tests.export.support import runner

MODEL = BUNDLED / "models" / "lenet5.onnx"
DIGITS = BUNDLED / "digits"


def test_the_bundled_model_reaches_the_accuracy_that_it_states() -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(MODEL).metadata_props}
    stated = ModelCard.from_metadata(metadata).weights["accuracy"]["held_out_top1"]
    _, held_out = split_digits(load_digits())
    correct = runner(MODEL)(held_out.examples().inputs).argmax(axis=1) == held_out.labels
    assert stated >= 0.98
    assert round(float(correct.mean()), 4) == stated


def test_the_bundled_pictures_are_two_held_out_digits_of_each_class() -> None:
    digits = bundled_digits()
    _, held_out = split_digits(load_digits())
    assert np.bincount(digits.labels).tolist() == [2] * 10
    assert set(digits.indices) <= set(held_out.indices)
    assert {path.name for path in DIGITS.iterdir()} == {
        f"{label}-{index:04}.png"
        for label, index in zip(digits.labels, digits.indices, strict=True)
    }


def test_the_bundled_pictures_are_the_datasets_and_classified_right() -> None:
    digits = bundled_digits()
    for picture, label, index in zip(digits.pictures, digits.labels, digits.indices, strict=True):
        with Image.open(_path(label, index)) as bundled:
            assert bundled.mode == "L"
            np.testing.assert_array_equal(np.asarray(bundled), picture)
    assert runner(MODEL)(digits.examples().inputs).argmax(axis=1).tolist() == digits.labels.tolist()


def _path(label: int, index: int) -> Path:
    return DIGITS / f"{label}-{index:04}.png"
