import os
from pathlib import Path

import pytest

from convlens.export import WriteError
from convlens.export.files import require_writable, write_atomically


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a longer old file")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    (target / "inside").mkdir(parents=True)  # a folder that is not empty cannot be replaced
    with pytest.raises(WriteError, match=r"cannot write .*model\.onnx: "):
        write_atomically(target, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_a_folder_below_a_file_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="there is no folder"):
        require_writable(tmp_path / "file" / "model.onnx")


def test_a_link_stays_one_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to("model.onnx")
    (tmp_path / "model.onnx").write_bytes(b"old")
    require_writable(tmp_path / "link.onnx")
    write_atomically(tmp_path / "link.onnx", b"new")
    assert (tmp_path / "link.onnx").is_symlink()
    assert (tmp_path / "model.onnx").read_bytes() == b"new"


def test_what_is_no_plain_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WriteError, match="it is not a plain file"):
        require_writable(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["x" * 300, "circle"])
def test_a_path_that_leads_nowhere_is_not_writable(tmp_path: Path, name: str) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(WriteError, match="cannot write"):
        require_writable(tmp_path / name)


def test_the_longest_name_that_a_disk_takes_is_written(tmp_path: Path) -> None:
    for name in ("a" * 255, "é" * 127, "\U0001f600" * 63):
        write_atomically(tmp_path / name, b"content")
        assert (tmp_path / name).read_bytes() == b"content"
    assert len(list(tmp_path.iterdir())) == 3
