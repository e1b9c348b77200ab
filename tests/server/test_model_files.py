"""Which files of a folder are models."""

from pathlib import Path

from convlens.server.model_files import find_model_files


def test_hidden_files_and_folders_are_no_models(tmp_path: Path) -> None:
    for name in ("a.onnx", ".a.onnx", "b/2/model.onnx", ".b/1/model.onnx"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [(file.name, file.version) for file in find_model_files(tmp_path)]
    assert found == [("a", "1"), ("b", "2")]
