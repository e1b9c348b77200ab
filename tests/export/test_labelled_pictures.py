import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convlens.analysis.card import Preprocessing
from convlens.export import ARCHITECTURES, TrainingError, find_architecture
from convlens.export.labelled_pictures import normalised, read_folder, to_pixels
from convlens.server.picture import to_input

GREY = ARCHITECTURES["lenet5"].preprocessing
EXIF_ORIENTATION = 0x0112


def _write(folder: Path, count: int, start: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(start)
    for index in range(start, start + count):
        pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")


def _read(folder: Path) -> tuple[tuple[str, ...], list[int], tuple[str, ...]]:
    pictures = read_folder(folder, GREY, lambda _done, _total: None)
    assert pictures.pixels.shape == (len(pictures), 32, 32, 1)
    return pictures.names, np.bincount(pictures.labels).tolist(), pictures.skipped


def test_each_folder_is_a_class_and_what_is_hidden_or_lies_beside_is_passed_over(
    tmp_path: Path,
) -> None:
    _write(tmp_path / "dog", 6)
    _write(tmp_path / "cat", 5)
    _write(tmp_path / ".cache", 1)
    (tmp_path / "notes.txt").write_text("not a class")
    (tmp_path / "dog" / ".DS_Store").write_bytes(b"\0")
    assert _read(tmp_path) == (("cat", "dog"), [5, 6], ())


def test_files_that_are_no_pictures_are_skipped_and_named(tmp_path: Path) -> None:
    _write(tmp_path / "cat", 5)
    _write(tmp_path / "dog", 7)
    (tmp_path / "dog" / "thumbs.db").write_text("nothing to see")
    whole = (tmp_path / "dog" / "6.png").read_bytes()
    (tmp_path / "dog" / "6.png").write_bytes(whole[: len(whole) // 2])
    _, counts, (truncated, other) = _read(tmp_path)
    assert counts == [5, 6]
    assert truncated.startswith("dog/6.png: ")
    assert other == "dog/thumbs.db: not a picture"


def test_a_class_with_too_few_readable_pictures_is_refused_with_what_is_wrong(
    tmp_path: Path,
) -> None:
    _write(tmp_path / "cat", 5)
    _write(tmp_path / "dog", 4)
    with pytest.raises(TrainingError, match=r"the class dog has too few pictures: 4, at least 5"):
        _read(tmp_path)
    (tmp_path / "dog" / "4.png").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"4, .* \(cannot be read: dog/4.png: not a picture\)"):
        _read(tmp_path)


def test_one_class_is_not_enough_and_a_missing_folder_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "cat", 5)
    with pytest.raises(TrainingError, match=r"at least 2 classes, has only cat"):
        _read(tmp_path)
    shutil.rmtree(tmp_path / "cat")
    with pytest.raises(TrainingError, match=r"at least 2 classes, has none"):
        _read(tmp_path)
    with pytest.raises(TrainingError, match=r"missing: No such file or directory"):
        _read(tmp_path / "missing")


def test_a_photograph_that_lies_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    upright = np.zeros((32, 32, 3), dtype=np.uint8)
    upright[:16] = 255
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 8  # turn it by 90 degrees against the clock
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(5):
            turned = Image.fromarray(np.rot90(upright, -1))
            turned.save(tmp_path / name / f"{index}.png", exif=exif)
    pictures = read_folder(tmp_path, GREY, lambda _done, _total: None)
    assert (pictures.pixels == upright[np.newaxis, :, :, :1]).all()


@pytest.mark.parametrize("name", ["lenet5", "efficientnet_lite0", "resnet18"])
@pytest.mark.parametrize("size", [(640, 427), (300, 451), (100, 90)])
def test_a_picture_becomes_the_very_input_that_the_server_makes_of_it(
    name: str, size: tuple[int, int]
) -> None:
    how: Preprocessing = ARCHITECTURES[name].preprocessing
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    ours = normalised(to_pixels(picture, how)[np.newaxis], how)[0]
    np.testing.assert_array_equal(ours, to_input(encoded.getvalue(), how, 10**6))


def test_a_class_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"th\xe9"):
        (tmp_path / os.fsdecode(name)).mkdir()
    with pytest.raises(TrainingError, match=r"a UTF-8 name, not 'caf\\udce9'"):
        read_folder(tmp_path, find_architecture("lenet5").preprocessing, lambda _done, _all: None)
