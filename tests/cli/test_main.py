"""The entry points: help, versions, missing extras, exit codes."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from convlens.cli.main import main


def _convlens(
    *words: str, python_flags: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *python_flags, "-m", "convlens.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_help_lists_every_command() -> None:
    done = _convlens("--help")
    assert done.returncode == 0
    for command in ("export", "train", "analyze", "compare", "serve", "classify", "bench", "demo"):
        assert f"\n    {command} " in done.stdout


def test_version_is_the_packages() -> None:
    assert _convlens("--version").stdout == f"convlens {version('convlens')}\n"


@pytest.mark.parametrize("words", [(), ("fly",)])
def test_no_command_or_an_unknown_one_is_wrong_usage(words: tuple[str, ...]) -> None:
    done = _convlens(*words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        (["export", "lenet5"], "torch", "convlens[export]"),
        (["serve"], "onnxruntime", "convlens[serve]"),
        (["classify", "cat.jpg"], "grpc", "convlens[client]"),
    ],
)
def test_a_missing_extra_is_named_in_one_line(words: list[str], package: str, extra: str) -> None:
    """A Python that cannot import the package stands for an install without the extra."""
    blocked = (
        f"import sys; sys.modules[{package!r}] = None; from convlens.cli.main import main; "
        f"sys.exit(main({words!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{package!r} is not installed" in done.stderr
    assert extra in done.stderr


def test_help_of_a_command_imports_no_torch_and_no_onnxruntime() -> None:
    for command in ("analyze", "classify"):
        done = _convlens(command, "--help", python_flags=("-X", "importtime"))
        assert done.returncode == 0
        imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
        assert not imported & {"torch", "onnxruntime", "sklearn"}


@pytest.mark.parametrize("command", ["analyze", "compare"])
def test_a_name_in_an_error_gives_no_orders_to_the_terminal(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["\x1b[31mred.onnx", "other.onnx"]
    assert main([command, *names[: 2 if command == "compare" else 1]]) != 0
    said = capsys.readouterr().err
    assert "\\x1b[31mred.onnx" in said
    assert "\x1b" not in said
