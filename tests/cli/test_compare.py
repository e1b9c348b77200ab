import json
import subprocess
import sys
from pathlib import Path

from tests.analysis.graphs import node, save_graph, save_lenet5

CONVLENS = str(Path(sys.executable).with_name("convlens"))


def _compare(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [CONVLENS, "compare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_two_files_are_compared_as_text_and_as_json(tmp_path: Path) -> None:
    first = save_lenet5(tmp_path / "first.onnx")
    second = save_graph(tmp_path / "second.onnx", [node("Relu", "x", "y")], {})
    text = _compare(first, second)
    value = _compare(first, second, "--json", "--batch", "2")

    assert text.returncode == 0
    assert "removed" in text.stdout
    assert "\x1b" not in text.stdout
    assert json.loads(value.stdout)["totals"]["macs"] == [2 * 416_520, 0]


def test_a_missing_file_gives_one_line_and_exit_code_1(tmp_path: Path) -> None:
    first = save_lenet5(tmp_path / "first.onnx")
    result = _compare(first, tmp_path / "none.onnx")

    assert result.returncode == 1
    assert (
        result.stderr == f"convlens compare: {tmp_path / 'none.onnx'}: No such file or directory\n"
    )
