"""Which files of a folder are models."""

import os
from pathlib import Path

import pytest

from convlens.server.model_files import ModelFolder


def test_hidden_files_and_folders_are_no_models(tmp_path: Path) -> None:
    for name in ("a.onnx", ".a.onnx", "b/2/model.onnx", ".b/1/model.onnx"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [(file.name, file.version) for file in ModelFolder(tmp_path).find()]
    assert found == [("a", "1"), ("b", "2")]


def test_what_cannot_be_read_or_named_in_an_answer_is_passed_over_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.onnx").touch()
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "loop.onnx").symlink_to("loop.onnx")
    (tmp_path / os.fsdecode(b"caf\xe9.onnx")).touch()
    (tmp_path / "two\nlines.onnx").touch()
    for version in ("\u0663", "new"):
        (tmp_path / "b" / version).mkdir(parents=True)
        (tmp_path / "b" / version / "model.onnx").touch()
    folder = ModelFolder(tmp_path)
    for _ in range(2):  # as often as a server that follows the folder looks at it
        assert [file.name for file in folder.find()] == ["a"]
    assert sorted(record.getMessage().rpartition(", ")[2] for record in caplog.records) == [
        *["it is not a regular file"] * 2,
        *["its folder's name is not a number"] * 2,
        *["its name cannot be printed"] * 2,
    ]
    caplog.text.encode()
