"""`convlens tune`: what it prints and writes, and how it fails."""

import json
import shutil
from pathlib import Path

import pytest

from convlens.cli.main import main
from tests.server.graphs import save_two_inputs
from tests.support import BUNDLED


def test_tune_prints_what_it_measured_and_writes_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lenet5.onnx"
    shutil.copy(BUNDLED, path)
    assert main(["tune", str(path), "--budget", "1s", "--threads", "1", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["schema"] == "convlens.tuning/1"
    assert value["trial"] == "16 inputs of seeded noise"
    way = value["rows"][0]["plan"]
    assert (way["provider"], way["precision"], way["threads"]) == ("cpu", "fp32", 1)
    (written,) = value["tuned"]
    assert json.loads(Path(written).read_text())["plans"] == value["tuned"][written]["plans"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "line"),
    [
        (["nobody.onnx"], 1, "nobody.onnx"),
        (["two.onnx"], 1, "only models with one input and a batch axis can be tuned"),
        (["lenet5.onnx", "--pictures", "."], 1, "there is no picture in"),
        (["lenet5.onnx", "--budget", "soon"], 2, "must be a number of seconds"),
        (["lenet5.onnx", "--budget", "0"], 2, "must be more than 0 seconds"),
    ],
)
def test_tune_fails_in_one_line(
    arguments: list[str],
    exit_code: int,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    save_two_inputs(tmp_path / "two.onnx")
    shutil.copy(BUNDLED, tmp_path / "lenet5.onnx")
    try:
        code = main(["tune", *arguments])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == exit_code
    assert line in capsys.readouterr().err
