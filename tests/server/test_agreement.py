"""The pictures that ways to run a model are compared on."""

import shutil
from pathlib import Path

import pytest

from convlens.server.agreement import pictures_trial
from convlens.server.errors import InvalidPictureError
from convlens.server.model import load_model
from convlens.server.plan import Machine, Plan
from convlens.server.providers import ModelSource
from tests.support import BUNDLED, DIGITS


def test_a_broken_picture_is_named_and_a_folder_is_no_picture(tmp_path: Path) -> None:
    source = ModelSource.read(BUNDLED)
    model = load_model("lenet5", "1", source, Plan(), Machine())
    (tmp_path / "folder.png").mkdir()
    shutil.copy(DIGITS[0], tmp_path / "folder.png")
    assert len(pictures_trial(model, tmp_path).inputs) == 1
    broken = tmp_path / "broken.png"
    broken.write_bytes(DIGITS[0].read_bytes()[:100])
    with pytest.raises(InvalidPictureError, match=f"{broken.name}: the picture is broken"):
        pictures_trial(model, tmp_path)
