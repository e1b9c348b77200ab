"""The report as one HTML page: a sortable table and two pictures, with nothing to be loaded."""

from collections.abc import Iterable
from html import escape
from pathlib import Path

from convlens.analysis.field_picture import central_box, growth_svg, image_svg, picture_size
from convlens.analysis.layer_table import COLUMNS, Column, Row, layer_rows
from convlens.analysis.render_text import format_bytes, heading_lines, total_lines
from convlens.analysis.report import Report
from convlens.analysis.text_layout import printable

# Nothing may be loaded from anywhere, whatever the file's texts contain.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_FRAME_HEIGHT_PIXELS = 720


def report_html(report: Report) -> str:
    """The report as a page of its own; texts of the file are escaped."""
    title, *head = (_text(line.plain) for line in heading_lines(report))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_resource("page.css")}</style>
</head>
<body>
<header><h1>{title}</h1>{"".join(f"<p>{line}</p>" for line in head)}</header>
<main>
<dl class="totals">{"".join(_totals(report))}</dl>
{_figures(report)}
<section aria-labelledby="layers-heading">
<div class="bar"><h2 id="layers-heading">Layers</h2>
<label>Filter <input id="filter" type="search" autocomplete="off"></label></div>
<div class="scroll" tabindex="0" role="region" aria-labelledby="layers-heading">
<table id="layers">
<thead><tr>{"".join(map(_heading, COLUMNS))}</tr></thead>
<tbody>
{"".join(_row(row, report) for row in layer_rows(report))}</tbody>
</table></div></section>
</main>
<footer><ul>{"".join(f"<li>{_text(line.plain)}</li>" for line in total_lines(report))}</ul></footer>
<script>{_resource("page.js")}</script>
</body>
</html>
"""


def report_frame(report: Report) -> str:
    """The page in a frame that keeps its style and its script to itself, for a notebook."""
    return (
        f'<iframe srcdoc="{escape(report_html(report))}" sandbox="allow-scripts" '
        f'title="Analysis" style="width:100%;height:{_FRAME_HEIGHT_PIXELS}px;border:0"></iframe>'
    )


def _totals(report: Report) -> Iterable[str]:
    totals = report.totals
    for name, value in (
        ("parameters", f"{totals.learnable:,}"),
        ("MACs", f"{totals.macs:,}"),
        ("FLOPs", f"{totals.flops:,}"),
        ("weights", format_bytes(totals.weight_bytes)),
        ("activations at the peak", format_bytes(totals.peak_activation_bytes)),
    ):
        yield f"<div><dt>{name}</dt><dd>{value}</dd></div>"


def _figures(report: Report) -> str:
    image, growth = image_svg(report), growth_svg(report)
    if not growth:
        return ""
    on_image = (
        f"<figure>{image}<figcaption>What one unit in the middle sees of the image (filled), for "
        f'each stride. <span id="caption" aria-live="polite">Point at a layer to see its own.'
        f"</span></figcaption></figure>"
    )
    return (
        f'<section class="figures" aria-label="Receptive fields">{on_image if image else ""}'
        f"<figure>{growth}<figcaption>The receptive field's size in pixels, layer by layer; above, "
        f"the stride.</figcaption></figure></section>"
    )


def _heading(column: Column) -> str:
    kind = "number" if column.numeric else "text"
    order = ' aria-sort="ascending"' if column.key == "index" else ""
    return (
        f'<th scope="col" class="{kind}"{order}><button type="button" '
        f'title="{column.meaning}">{column.heading}</button></th>'
    )


def _row(row: Row, report: Report) -> str:
    size = picture_size(report)
    box = central_box(row.last, size) if size and row.kind == "layer" else None
    attributes = f' data-layer="{row.last.index}"' if row.kind == "layer" else ""
    if box is not None:
        attributes += f' data-box="{box.left:g} {box.top:g} {box.width:g} {box.height:g}"'
    uncertain = "" if row.certain else " uncertain"
    cells = "".join(map(_cell, COLUMNS, row.cells, row.values))
    return f'<tr class="{row.kind}{uncertain}"{attributes}>{cells}</tr>\n'


def _cell(column: Column, text: str, value: float | str | None) -> str:
    shown = _text(text)
    if column.key == "name":
        return f'<th scope="row">{shown}</th>'
    if not column.numeric:
        return f"<td>{shown}</td>"
    return f'<td class="number" data-value="{"" if value is None else value}">{shown}</td>'


def _text(text: str) -> str:
    return escape(printable(text))


def _resource(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
