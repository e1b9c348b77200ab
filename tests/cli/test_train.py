"""`convlens train` as a user types it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from convlens.cli.main import main


def _write(folder: Path, each: int) -> None:
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 128)):
        (folder / name).mkdir(parents=True)
        for index in range(each):
            pixels = rng.integers(low, low + 128, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


def test_what_came_out_is_said_in_five_lines_and_what_was_skipped_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "shades", 20)
    (tmp_path / "shades" / "dark" / "notes.txt").write_text("dark ones")
    assert main(["train", "shades", "--arch", "lenet5", "--epochs", "10"]) == 0
    captured = capsys.readouterr()
    pictures, trained, held_out, parity, written = captured.out.splitlines()
    assert pictures == "pictures  40 of 2 classes: dark 20, light 20"
    assert trained == "trained   on 26, 10 epochs, stopped by 6 others"
    assert held_out == (
        "held out  100.00% of 8 named rightly (always the most frequent class: 50.00%)"
    )
    assert parity.startswith("parity    at most ")
    assert written.startswith("written   shades.onnx: ")
    assert captured.err == "convlens train: skipped dark/notes.txt: not a picture\n"
    onnx.checker.check_model("shades.onnx", full_check=True)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("missing",), "cannot read the folder missing: No such file or directory"),
        (
            ("few",),
            "the class dark has too few pictures: 4, at least 5 are needed",
        ),
        (
            ("few/dark",),
            "few/dark must have a folder for each of at least 2 classes, has none",
        ),
        (
            ("few", "-o", "nowhere/x.onnx"),
            "cannot write nowhere/x.onnx: there is no folder nowhere",
        ),
    ],
)
def test_a_failure_is_one_line_and_leaves_no_file(
    words: tuple[str, ...],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "few", 4)
    assert main(["train", *words, "--arch", "lenet5"]) == 1
    assert capsys.readouterr() == ("", f"convlens train: {line}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["few"]


def test_an_unknown_architecture_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "--arch", "lenet"]) == 2
    assert capsys.readouterr().err.startswith(
        "convlens train: no architecture is called 'lenet': did you mean "
    )


def test_a_held_out_share_above_a_half_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", "digits", "--arch", "lenet5", "--held-out", "0.9"])
    assert "must be more than 0 and at most 0.5, is '0.9'" in capsys.readouterr().err
