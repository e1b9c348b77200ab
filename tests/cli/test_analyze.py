import csv
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.analysis.graphs import node, save_graph, save_lenet5, save_wrong_shape

ANALYZE = str(Path(sys.executable).with_name("analyze"))


@pytest.fixture(scope="module")
def lenet5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    metadata = {
        "convlens.model": '{"name": "lenet5"}',
        "convlens.weights": '{"origin": "random", "seed": 0}',
    }
    return save_lenet5(tmp_path_factory.mktemp("cli") / "lenet5.onnx", metadata)


def _analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ANALYZE, *map(str, arguments)], capture_output=True, text=True)


def _on_a_terminal(*arguments: str | Path, columns: int) -> str:
    """What the command shows on a terminal of that width."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen([ANALYZE, *map(str, arguments)], stdout=theirs, env=environment):
        os.close(theirs)
        shown = bytearray()
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # how Linux says that the other side has closed
            pass
    os.close(ours)
    return shown.decode()


def test_the_text_lists_every_layer_with_its_numbers(lenet5: Path) -> None:
    result = _analyze(lenet5)

    assert result.returncode == 0
    assert result.stderr == ""
    rows = {line.split()[1]: line.split() for line in result.stdout.splitlines() if "Conv" in line}
    assert rows["conv2"] == [
        "3", "conv2", "Conv", "batch,16,10,10", "2,416", "240,000", "14", "2", "0",
    ]  # fmt: skip
    assert "61,706 parameters" in result.stdout
    assert "batch counted as 1" in result.stdout


def test_random_weights_are_called_random(lenet5: Path) -> None:
    assert "weights: random, seed 0" in _analyze(lenet5).stdout.splitlines()[0]


def test_json_is_the_report(lenet5: Path) -> None:
    report = json.loads(_analyze(lenet5, "--format", "json", "--batch", "2").stdout)

    assert report["schema"] == "convlens.analysis/1"
    assert report["layers"][3]["outputs"][0]["shape"] == [2, 16, 10, 10]
    assert report["totals"]["macs"] == 2 * 416_520


def test_csv_has_a_row_a_layer(lenet5: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.csv"
    assert _analyze(lenet5, "--format", "csv", "-o", output).returncode == 0

    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["learnable"] for row in rows if row["op_type"] == "Conv"] == [
        "156",
        "2416",
        "48120",
    ]


def test_symbolic_states_formulas_in_n_h_and_w(lenet5: Path) -> None:
    text = _analyze(lenet5, "--symbolic").stdout
    report = json.loads(_analyze(lenet5, "--symbolic", "--format", "json").stdout)

    assert "N,6,H - 4,W - 4" in text
    assert report["layers"][2]["outputs"][0]["shape"] == [
        "N", 6, "floor((H - 6)/2) + 1", "floor((W - 6)/2) + 1",
    ]  # fmt: skip
    assert report["layers"][0]["formulas"]["macs"] == ("150*H*N*W - 600*H*N - 600*N*W + 2400*N")
    assert report["layers"][9]["formulas"]["macs"] == "10080*N"


def test_symbolic_leaves_the_numbers_that_are_given(lenet5: Path) -> None:
    arguments = ("--symbolic", "--input-size", "32x32", "--format", "json")
    report = json.loads(_analyze(lenet5, *arguments).stdout)

    assert report["totals"]["formulas"]["macs"] == "416520*N"
    assert report["totals"]["formulas"]["activation_bytes"] == f"{2 * 6 * 28 * 28 * 4}*N"


def test_a_convention_states_the_totals_in_another_tools_terms(lenet5: Path) -> None:
    last = _analyze(lenet5, "--convention", "fvcore").stdout.splitlines()[-1]
    report = json.loads(_analyze(lenet5, "--convention", "flops", "--format", "json").stdout)

    assert last.startswith("fvcore: 61,706 parameters, 416,520 FLOPs: a MAC counts as one")
    assert report["convention"]["operations"] == report["totals"]["flops"]
    assert _analyze(lenet5, "--convention", "flops", "--format", "csv").returncode == 2


def test_explain_shows_the_formulas_with_their_numbers(lenet5: Path) -> None:
    text = _analyze(lenet5, "--explain", "conv2").stdout

    assert "floor((14 - 5 + 2*0) / 1) + 1 = 10" in text
    assert "(5 - 1)*2 = 8" in text
    assert "16 x 6 x 5 x 5 weights" in text
    assert "1,176 x 1,600 = 1,881,600 weights" in text


def test_explaining_a_layer_that_is_not_there_names_those_that_are(lenet5: Path) -> None:
    result = _analyze(lenet5, "--explain", "conv9")

    assert result.returncode == 1
    assert result.stderr.startswith("analyze: no layer is called 'conv9'; did you mean conv")
    assert result.stderr.count("\n") == 1


def test_an_error_does_not_pass_on_what_a_name_would_do_to_a_terminal(tmp_path: Path) -> None:
    hostile = node("Relu", "x", "red\x1b[31m\n")
    result = _analyze(save_graph(tmp_path / "red.onnx", [hostile], {}), "--explain", "rod")

    assert result.returncode == 1
    assert result.stderr.endswith("red\\x1b[31m\\n\n")


def test_a_pipe_gets_everything_without_colour(lenet5: Path) -> None:
    text = _analyze(lenet5).stdout

    assert "\x1b" not in text
    assert "…" not in text
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_a_terminal_gets_colour_and_lines_that_fit(lenet5: Path) -> None:
    text = _on_a_terminal(lenet5, columns=80)

    assert "\x1b[" in text
    table = [line for line in _without_colour(text).splitlines() if "batch," in line]
    assert len(table) >= 12
    assert max(map(len, table)) <= 80


def _without_colour(text: str) -> str:
    from rich.text import Text

    return Text.from_ansi(text.replace("\r\n", "\n")).plain


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b"not a model at all", "not an ONNX file"),
    ],
)
def test_a_bad_file_gives_one_line_and_exit_code_1(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    _assert_fails_in_one_line(path, message)


def test_a_truncated_file_gives_one_line_and_exit_code_1(tmp_path: Path, lenet5: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(lenet5.read_bytes()[:100_000])
    _assert_fails_in_one_line(path, "truncated or damaged")


def _assert_fails_in_one_line(path: Path, message: str) -> None:
    result = _analyze(path)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"analyze: {path}: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_picture_too_small_for_the_network_gives_one_line(lenet5: Path) -> None:
    result = _analyze(lenet5, "--input-size", "8x8")

    assert result.returncode == 1
    assert "conv2: the 2x2 map that reaches it is smaller than its window" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--input-size", "224"),
        ("--input-size", "0x5"),
        ("--batch", "0"),
        ("--format", "xml"),
        ("--explain", "conv1", "--format", "json"),
        ("--explain", "conv1", "--lint"),
        ("--lint", "--format", "html"),
        ("--depth", "1", "--format", "csv"),
        ("--depth", "0"),
    ],
)
def test_wrong_usage_gives_exit_code_2(lenet5: Path, arguments: tuple[str, ...]) -> None:
    assert _analyze(lenet5, *arguments).returncode == 2


def test_a_file_that_cannot_be_written_gives_one_line(lenet5: Path, tmp_path: Path) -> None:
    result = _analyze(lenet5, "-o", tmp_path / "none" / "report.txt")

    assert result.returncode == 1
    assert result.stderr.endswith("No such file or directory\n")
    assert result.stderr.count("\n") == 1


def test_help_does_not_wait_for_onnx_or_numpy() -> None:
    script = (
        "import sys\n"
        "from convlens.cli.main import main\n"
        "try: main(['analyze', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'onnx', 'numpy', 'rich'} & set(sys.modules)))"
    )
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    assert result.returncode == 0
    # Measured at 0.10 s; the bound leaves room for a loaded machine.
    assert time.perf_counter() - start < 1.0


def test_markdown_and_html_are_written(lenet5: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    assert _analyze(lenet5, "--format", "html", "-o", output).returncode == 0

    assert output.read_text().startswith("<!doctype html>")
    assert "| 3 | conv2 | Conv |" in _analyze(lenet5, "--format", "markdown").stdout


def test_lint_gives_text_or_json(lenet5: Path) -> None:
    text = _analyze(lenet5, "--lint").stdout
    report = json.loads(_analyze(lenet5, "--lint", "--format", "json").stdout)

    assert "info  aliasing" in text
    assert [finding["layer"] for finding in report["findings"]] == ["pool1", "pool2"]
    assert report["schema"] == "convlens.analysis/1"


def test_a_pipe_does_not_wait_for_rich(lenet5: Path) -> None:
    script = (
        "import sys\n"
        "from convlens.cli.main import main\n"
        "main(['analyze', sys.argv[1]])\n"
        "sys.exit('rich' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(lenet5)]
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0


def test_verify_says_what_a_run_confirmed(lenet5: Path) -> None:
    result = _analyze(lenet5, "--verify")

    assert result.returncode == 0
    assert result.stdout.splitlines()[0].startswith("compared with a run: 12 shapes, ")
    assert result.stdout.splitlines()[-1] == "all agree"


def test_verify_fails_where_a_shape_differs(tmp_path: Path) -> None:
    path = save_wrong_shape(tmp_path / "m.onnx")
    result = _analyze(path, "--verify")

    assert result.returncode == 1
    assert "differs: y: the shape is 4,48 in a run" in result.stdout


def test_verify_without_a_size_says_which_option_gives_it(tmp_path: Path) -> None:
    path = save_graph(tmp_path / "m.onnx", [node("Relu", "x", "y")], {}, (1, 1, "h", "w"))
    result = _analyze(path, "--verify")

    assert result.returncode == 1
    assert "--input-size" in result.stderr
