"""The report as Markdown: a table for a model's page or a pull request."""

import re
from collections.abc import Iterable, Sequence

from convlens.analysis.layer_table import COLUMNS, Row, layer_rows, module_rows
from convlens.analysis.render_text import heading_lines, total_lines
from convlens.analysis.report import Report
from convlens.analysis.text_layout import printable

# What Markdown or the HTML inside it would take for markup.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&:@^$])")


def report_markdown(report: Report, depth: int | None = None) -> str:
    """The report as GitHub's Markdown; texts of the file are escaped.

    Args:
        report: of the model.
        depth: gives a row a module instead, that many levels down; None gives every layer.
    """
    rows = layer_rows(report) if depth is None else module_rows(report, depth)
    title, *head = heading_lines(report)
    lines = [f"## {_escaped(title.plain)}", ""]
    lines += [f"{_escaped(line.plain)}  " for line in head]
    lines += ["", *_table(rows), ""]
    lines += [f"* {_escaped(line.plain)}" for line in total_lines(report)]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Row]) -> Iterable[str]:
    yield _line(column.heading for column in COLUMNS)
    yield _line("---:" if column.numeric else "---" for column in COLUMNS)
    for row in rows:
        mark = "**" if row.kind == "module" else ""
        yield _line(f"{mark}{_escaped(cell)}{mark}" if cell else "" for cell in row.cells)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """The text without the characters that mean something to Markdown.

    Digits, their separators and plain words stay as they are, so that the source reads well too.
    """
    text = printable(text)
    if re.fullmatch(r"[\w ,./+?-]*", text) and not re.search(r"_|^[-+]? |^[-+]$|www|^\d+\. ", text):
        return text
    return _MARKUP.sub(r"\\\1", text)
