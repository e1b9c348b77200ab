import csv
import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from convlens.analysis import Report, analyze
from convlens.analysis.render_csv import report_csv
from convlens.analysis.render_html import report_html
from convlens.analysis.render_markdown import report_markdown
from convlens.analysis.render_text import format_bytes, plain, report_text
from convlens.analysis.text_layout import printable
from tests.analysis.graphs import node, save_graph, weight


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (553_000_000, "553.0 MB"),
        (2_500_000_000, "2.5 GB"),
    ],
)
def test_bytes_are_shown_in_decimal_units(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_text_from_the_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    hostile = node("Relu", "x", "y")
    hostile.name = "\x1b[2J[red]relu"
    text = plain(report_text(analyze(save_graph(tmp_path / "m.onnx", [hostile], {}))))

    assert "\\x1b[2J[red]relu" in text
    assert printable("a\nb\x9b") == "a\\nb\\x9b"


def test_folded_batch_normalisations_are_told_from_what_the_file_stores(resnet18: Path) -> None:
    text = plain(report_text(analyze(resnet18)))

    assert "11,689,512 parameters, of which the file stores 11,679,912" in text
    assert "20 BatchNormalizations being folded" in text


def test_the_marks_in_the_table_are_explained_where_they_occur(
    tmp_path: Path, lenet5: Path
) -> None:
    nodes = [
        node("Conv", "x w", "conv", pads=[0, 0, 1, 1]),
        node("Add", "x conv", "sum"),
        node("Hardmax", "sum", "y"),
    ]
    path = save_graph(tmp_path / "m.onnx", nodes, {"w": weight(1, 1, 2, 2)})
    text = plain(report_text(analyze(path)))

    assert "2 ~" in text
    assert "~: branches with different strides or centres" in text
    assert "at least 4,096 MACs, at least" in text
    assert "?: not known in 1 of 3 layers; operators not understood: Hardmax" in text
    assert "all: sees the whole picture" not in text
    plain_text = plain(report_text(analyze(lenet5)))
    assert "all: sees the whole picture, first at fc1" in plain_text
    assert "~" not in plain_text
    assert "at least" not in plain_text
    assert "?" not in plain_text


def _text(report: Report) -> str:
    return plain(report_text(report))


@pytest.mark.parametrize("halvings", [31, 1200])
@pytest.mark.parametrize("render", [_text, report_markdown, report_html, report_csv])
def test_a_field_larger_than_any_number_of_a_machine_is_shown(
    tmp_path: Path, render: Callable[[Report], str], halvings: int
) -> None:
    names = ["x", *(f"pool{index}" for index in range(halvings))]
    pools = [
        node("MaxPool", before, after, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        for before, after in pairwise(names)
    ]
    report = analyze(save_graph(tmp_path / "m.onnx", pools, {}))

    assert report.layers[-1].receptive_field.size == (2 ** (halvings + 1) - 1,) * 2
    assert names[-1] in render(report)


def test_the_csv_reads_back(lenet5: Path) -> None:
    report = analyze(lenet5)
    rows = list(csv.DictReader(io.StringIO(report_csv(report), newline="")))

    assert [row["name"] for row in rows] == [layer.name for layer in report.layers]
    assert rows[3]["output_shape"] == "batch,16,10,10"
    assert rows[3]["receptive_field_size"] == "14,14"
    assert rows[9]["receptive_field_size"] == ""
    assert rows[9]["global_since"] == "fc1"
