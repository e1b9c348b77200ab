"""The report in its other forms: by module, in a narrow terminal, as Markdown, HTML, data frame."""

import csv
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pandas
import pytest
from rich.console import Console

from convlens.analysis import Report, analyze
from convlens.analysis.field_picture import central_box
from convlens.analysis.layer_table import layer_rows, module_rows
from convlens.analysis.module_tree import module_path
from convlens.analysis.render_csv import report_csv
from convlens.analysis.render_html import report_html
from convlens.analysis.render_markdown import report_markdown
from convlens.analysis.render_text import plain, report_text
from tests.analysis.graphs import node, save_graph, weight

HOSTILE = "<script>alert(1)</script>|\n=cmd()\u202e`*_[x](http://evil)"


@pytest.fixture(scope="module")
def report(resnet18: Path) -> Report:
    return analyze(resnet18)


@pytest.fixture
def hostile(tmp_path: Path) -> Report:
    relu = node("Relu", "x", "y")
    relu.name = HOSTILE
    formula = node("Relu", "y", "z")
    formula.name = "=HYPERLINK(1)"
    return analyze(save_graph(tmp_path / "m.onnx", [relu, formula], {}))


def test_layers_of_one_module_stand_under_its_sums(report: Report) -> None:
    rows = layer_rows(report)
    names = [row.cells[1] for row in rows if row.kind == "module"]

    assert names == ["layer1", "layer2", "layer3", "layer4"]
    assert [row.last for row in rows if row.kind == "layer"] == list(report.layers)


def test_a_depth_gives_a_row_a_module_with_the_sums_of_its_layers(report: Report) -> None:
    rows = {row.cells[1]: row for row in module_rows(report, depth=1)}
    inside = [layer for layer in report.layers if (layer.scope or "").startswith("layer2")]

    assert list(rows)[3:7] == ["layer1", "layer2", "layer3", "layer4"]
    assert rows["layer2"].values[5] == sum(layer.macs or 0 for layer in inside)
    assert rows["layer2"].cells[6:] == ("99", "8", "-49")
    assert sum(int(row.values[5] or 0) for row in rows.values()) == report.totals.macs


def test_a_module_of_many_layers_is_shown_by_its_children(tmp_path: Path) -> None:
    names = [f"big.{block}.op{op}" for block in range(3) for op in range(9)]
    tensors = ["x", *names]
    nodes = [node("Relu", *pair) for pair in pairwise(tensors)]
    report = analyze(save_graph(tmp_path / "m.onnx", nodes, {}))
    modules = [row.cells[1] for row in layer_rows(report) if row.kind == "module"]

    assert modules == ["big.0", "big.1", "big.2"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/layer1/layer1.0/conv1/Conv", ("layer1", "0", "conv1")),
        ("/features/features.1/features.1.0/Conv", ("features", "1", "0")),
        ("layer1.0.conv1", ("layer1", "0", "conv1")),
        ("block1/conv1/Conv2D", ("block1", "conv1")),
        ("/Relu", ("Relu",)),
        ("Conv_0", ("Conv_0",)),
    ],
)
def test_modules_are_read_from_the_names_of_other_exporters(
    tmp_path: Path, name: str, path: tuple[str, ...]
) -> None:
    relu = node("Relu", "x", "y")
    relu.name = name
    (layer,) = analyze(save_graph(tmp_path / "m.onnx", [relu], {})).layers

    assert module_path(layer) == path


@pytest.mark.parametrize("width", [60, 72, 80, 100, 140])
def test_the_table_fits_the_terminal_and_keeps_what_matters(report: Report, width: int) -> None:
    buffer = io.StringIO()
    Console(file=buffer, width=width).print(report_text(report))
    lines = buffer.getvalue().splitlines()
    header = next(line for line in lines if line.split()[:1] in (["#"], ["layer"]))

    assert max(map(len, lines)) <= width
    assert {"layer", "output", "MACs", "sees"} <= set(header.split())
    assert any("512,7,7" in line and "435" in line for line in lines)


def test_what_a_narrow_terminal_leaves_out_is_said(report: Report) -> None:
    buffer = io.StringIO()
    Console(file=buffer, width=60).print(report_text(report))

    assert "not shown at this width: #," in buffer.getvalue()
    assert "not shown" not in plain(report_text(report))


def test_markdown_has_the_table_and_the_totals(report: Report) -> None:
    lines = report_markdown(report, depth=1).splitlines()

    assert "| # | layer | op | output | parameters | MACs | sees | stride | start |" in lines
    assert any(line.startswith("|  | **layer4** | **11 layers** |") for line in lines)
    assert any(line.startswith("* 11,689,512 parameters") for line in lines)


def test_markdown_escapes_what_the_file_says(hostile: Report) -> None:
    text = report_markdown(hostile)
    row = next(line for line in text.splitlines() if "alert" in line)

    assert re.search(r"(?<!\\)[<>`*\[\]]", row) is None
    assert len(re.findall(r"(?<!\\)\|", row)) == 10
    assert "\u202e" not in text


class _Page(HTMLParser):
    """Collects the tags, attributes and the text of the cells of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_holds_every_layer_and_both_pictures(report: Report) -> None:
    page = _Page(report_html(report))
    layers = [value for name, value in page.attributes if name == "data-layer"]

    assert set(layers) == {str(layer.index) for layer in report.layers}
    assert page.tags.count("svg") == 2
    assert "11,689,512" in page.texts


def test_the_page_loads_nothing(report: Report) -> None:
    html = report_html(report)
    page = _Page(html)

    assert not {"link", "img", "iframe", "object"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in {"src", "href"}]
    assert "default-src 'none'" in html
    assert "url(" not in html
    assert "@import" not in html


def test_the_page_escapes_what_the_file_says(hostile: Report) -> None:
    page = _Page(report_html(hostile))

    assert page.tags.count("script") == 1
    assert any("<script>alert(1)</script>|\\n=cmd()\\u202e" in text for text in page.texts)


def test_the_unit_in_the_middle_of_the_picture_is_drawn(report: Report) -> None:
    box = central_box(report.layer("layer1.0.conv1"), (224, 224))

    assert box is not None
    assert (box.width, box.height) == (19, 19)
    assert abs(box.left + (box.width - 1) / 2 - 223 / 2) <= 2  # half a stride at most
    assert (box.left + 9) % 4 == 0  # it starts at -9 and moves by 4


def test_a_model_without_a_picture_has_a_page_too(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "y")]
    path = save_graph(tmp_path / "m.onnx", nodes, {}, input_shape=("batch", 5))

    assert "svg" not in _Page(report_html(analyze(path))).tags


def test_a_notebook_shows_the_page_in_a_frame(hostile: Report) -> None:
    page = _Page(hostile._repr_html_())

    assert page.tags == ["iframe"]
    assert dict(page.attributes)["srcdoc"] == report_html(hostile)
    assert dict(page.attributes)["sandbox"] == "allow-scripts"


def test_csv_texts_do_not_become_formulas(hostile: Report, report: Report) -> None:
    names = [row["name"] for row in csv.DictReader(io.StringIO(report_csv(hostile), newline=""))]
    rows = list(csv.DictReader(io.StringIO(report_csv(report), newline="")))

    assert names == [HOSTILE, "'=HYPERLINK(1)"]
    assert rows[0]["receptive_field_start"] == "-3,-3"


def test_the_data_frame_has_the_rows_and_the_sums(report: Report) -> None:
    frame = report.to_dataframe()

    assert len(frame) == len(report.layers)
    assert frame["macs"].sum() == report.totals.macs
    assert frame.groupby("op_type")["learnable"].sum()["Gemm"] == 513_000
    assert frame.loc[0, "receptive_field_size"] == (7, 7)


def test_a_number_that_is_not_known_leaves_the_column_whole_numbers(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "conv"), node("Hardmax", "conv", "y")]
    path = save_graph(tmp_path / "m.onnx", nodes, {"w": weight(1, 1, 3, 3)})
    frame = analyze(path).to_dataframe()

    assert frame["macs"].dtype == pandas.Int64Dtype()


def test_without_pandas_the_error_says_what_to_install(lenet5: Path) -> None:
    script = (
        "import sys\n"
        "sys.modules['pandas'] = None\n"
        "from convlens.analysis import AnalysisError, analyze\n"
        "try: analyze(sys.argv[1]).to_dataframe()\n"
        "except AnalysisError as error: print(error)\n"
    )
    command = [sys.executable, "-c", script, str(lenet5)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout == "a data frame needs pandas: pip install 'convlens[notebook]'\n"
