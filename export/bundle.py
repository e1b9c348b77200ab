"""Regenerates what the server brings along: LeNet-5 and twenty digits that it has never seen.

Run as `python -m convlens.export.bundle`.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from convlens.export.digits import LABELS, Digits, load_digits, split_digits
from convlens.export.exporter import export_model

BUNDLED = Path(__file__).resolve().parent.parent / "server" / "bundled"
_EACH = 2


def write_bundle(folder: Path) -> None:
    """Write `models/lenet5.onnx` and `digits/<label>-<index in the dataset>.png` below `folder`."""
    export_model("lenet5", folder / "models" / "lenet5.onnx")
    digits = bundled_digits()
    for picture, label, index in zip(digits.pictures, digits.labels, digits.indices, strict=True):
        Image.fromarray(picture).save(folder / "digits" / f"{label}-{index:04}.png")


def bundled_digits() -> Digits:
    """The first two of each class in the held-out part, so that nobody has picked them."""
    _, held_out = split_digits(load_digits())
    first = [np.flatnonzero(held_out.labels == int(label))[:_EACH] for label in LABELS]
    return held_out.select(np.concatenate(first))


if __name__ == "__main__":
    write_bundle(BUNDLED)
