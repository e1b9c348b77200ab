"""`convlens export --precision` as a user types it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from safetensors.numpy import save_file

from convlens.cli.main import main
from tests.support import DIGITS

BUNDLED = Path(__file__).parents[2] / "server" / "bundled" / "models" / "lenet5.onnx"
_OWN = """
import torch
from torch import nn

def guesses():
    torch.manual_seed(0)
    layers = (nn.Linear(192, 64), nn.Linear(64, 64), nn.Linear(64, 1000))
    return nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), *layers)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The bundled LeNet-5's weights as a file: training anew takes longer than what is tested."""
    path = tmp_path_factory.mktemp("weights") / "lenet5.safetensors"
    initializers = onnx.load(BUNDLED).graph.initializer
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in initializers}
    save_file({name: value for name, value in tensors.items() if value.ndim and "." in name}, path)
    return str(path)


def _facts(out: str) -> dict[str, str]:
    """What is printed: by the first words of each line, the rest."""
    pairs = (line.split("  ", 1) for line in out.splitlines())
    return {about: text.strip() for about, text in pairs}


@pytest.mark.parametrize(("precision", "share"), [("int8", 0.5), ("fp16", 0.6)])
def test_lenet5_in_fewer_bits_is_compared_reported_and_smaller(
    precision: str,
    share: float,
    trained: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "lenet5.onnx"
    words = ["export", "lenet5", "--weights", trained, "--precision", precision]
    assert main([*words, "-o", str(output)]) == 0
    facts = _facts(capsys.readouterr().out)
    assert list(facts) == ["weights", "parity", precision, "in fp32", "graph", "written"]
    assert "of 360 pictures (scikit-learn's load_digits, held-out part)" in facts[precision]
    assert facts["in fp32"] == "nothing"
    assert output.stat().st_size < share * BUNDLED.stat().st_size


def test_too_little_agreement_is_one_line_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Among a thousand classes that nothing tells apart, the least error picks another one."""
    monkeypatch.chdir(tmp_path)
    Path("guessing.py").write_text(_OWN)
    words = ["--precision", "int8", "--min-agreement", "1", "--image-size", "16"]
    assert main(["export", "guessing:guesses", *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("convlens export: int8 puts the same class first as fp32 on ")
    assert line.endswith("of 128 pictures only (--min-agreement 1)")
    assert list(tmp_path.glob("*.onnx")) == []


def test_a_folder_calibrates_and_every_third_picture_of_it_is_compared_on(
    trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in DIGITS[:9]:
        (folder / path.name).write_bytes(path.read_bytes())
    words = ["--precision", "int8", "--calibration", str(folder), "-o", str(tmp_path / "a.onnx")]
    assert main(["export", "lenet5", "--weights", trained, *words]) == 0
    assert "of 3 pictures (the folder mine)" in _facts(capsys.readouterr().out)["int8"]


def test_a_broken_calibration_picture_is_named_and_no_file_written(
    trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(6):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f"{index}.png")
    broken = tmp_path / "7.png"
    broken.write_bytes(b"\x89PNG and nothing more")
    words = ["--precision", "int8", "--calibration", str(tmp_path), "-o", str(tmp_path / "a.onnx")]
    assert main(["export", "lenet5", "--weights", trained, *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"convlens export: cannot read the picture {broken}: ")
    assert list(tmp_path.glob("*.onnx")) == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["lenet5", "--calibration", "."], "--calibration is for --precision int8"),
        (["lenet5", "--min-agreement", "0.9"], "--min-agreement is for --precision fp16 or int8"),
        (
            ["lenet5", "--precision", "int8", "--calibration", "nowhere"],
            "there is no folder nowhere",
        ),
        (["--all", "--precision", "int8"], "--all writes fp32"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *words]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("share", ["2", "-0.1", "nan", "most"])
def test_an_agreement_that_is_no_share_is_wrong_usage(
    share: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["export", "lenet5", "--precision", "int8", f"--min-agreement={share}"])
    assert f"must be a number from 0 to 1, is {share!r}" in capsys.readouterr().err
