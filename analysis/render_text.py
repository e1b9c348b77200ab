"""The report as text: a table that fits a terminal, and is never cut where it goes elsewhere."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from convlens.analysis.layer_table import Row, layer_rows, module_rows, shown_name
from convlens.analysis.report import Report
from convlens.analysis.shape import Tensor, format_shape
from convlens.analysis.text_layout import fit, printable

# Wider than any table, so that nothing is cut.
_UNLIMITED_COLUMNS = 1_000_000


def report_text(report: Report, depth: int | None = None) -> RenderableType:
    """The report for a reader: what the file is, a row a layer, the totals, the notes.

    Args:
        report: of the model.
        depth: gives a row a module instead, that many levels down; None gives every layer.
    """
    rows = layer_rows(report) if depth is None else module_rows(report, depth)
    return Group(*heading_lines(report), Text(), _Table(rows), Text(), *total_lines(report))


def plain(renderable: RenderableType) -> str:
    """The text as it goes into a pipe or a file: no colour, nothing cut, no trailing blanks."""
    buffer = io.StringIO()
    Console(file=buffer, width=_UNLIMITED_COLUMNS, color_system=None).print(renderable)
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def format_bytes(count: int) -> str:
    """The size in the decimal unit that leaves one to three digits before the point."""
    if count < 1000:
        return f"{count} bytes"
    for unit, factor in (("kB", 10**3), ("MB", 10**6)):
        if count < 999.95 * factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 10**9:,.1f} GB"


def heading_lines(report: Report) -> Iterable[Text]:
    """What the file is, a line each; its name first."""
    model = report.model
    name = model.card.model.get("name") or model.path
    yield Text.assemble((printable(str(name)), "bold"), _weights(report))
    facts = [f"opset {model.opset}", printable(model.producer), format_bytes(model.file_bytes)]
    yield Text(", ".join(fact for fact in facts if fact), "dim")
    inputs = ", ".join(map(_tensor, report.inputs))
    outputs = ", ".join(map(_tensor, report.outputs))
    yield Text(f"{inputs} -> {outputs}")


def _weights(report: Report) -> Text:
    """Where the weights came from; that they are random is not to be overlooked."""
    weights = report.model.card.weights
    origin = report.model.card.weights_origin
    details = [origin] if origin else []
    stated = [key for key in ("seed", "dataset", "source") if weights.get(key) is not None]
    details += [f"{key} {weights[key]}" for key in stated]
    if not details:
        return Text()
    style = "bold yellow" if origin == "random" else ""
    return Text(f"   weights: {printable(', '.join(details))}", style)


def _tensor(tensor: Tensor) -> str:
    return f"{printable(tensor.name)} {tensor.dtype}[{printable(format_shape(tensor.shape))}]"


@dataclass(frozen=True)
class _Table:
    """The rows, laid out for the width that they are shown at."""

    rows: Sequence[Row]

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        layout = fit(self.rows, options.max_width)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column, width in zip(layout.columns, layout.widths, strict=True):
            table.add_column(
                column.heading,
                justify="right" if column.numeric else "left",
                style=_STYLES.get(column.key),
                no_wrap=True,
                width=width,
            )
        for row, cells in zip(self.rows, layout.cells, strict=True):
            table.add_row(*map(Text, cells), style=_row_style(row))
        yield table
        if layout.dropped:
            headings = ", ".join(column.heading for column in layout.dropped)
            yield Text(f"not shown at this width: {headings}", "dim")


_STYLES = {"index": "dim", "op": "cyan", "sees": "green"}


def _row_style(row: Row) -> str | None:
    if row.kind == "module":
        return "bold"
    return None if row.certain else "yellow"


def total_lines(report: Report) -> Iterable[Text]:
    """The sums over all layers, the legend and the notes, a line each."""
    totals = report.totals
    learned = f"{totals.learnable:,} parameters"
    if totals.statistics:
        learned += f" and {totals.statistics:,} statistics"
    folded = sum(layer.parameters.folded_batch_norm for layer in report.layers)
    stored = f"stored in {format_bytes(totals.weight_bytes)}"
    if folded:
        stored = (
            f"of which the file stores {totals.parameters:,} in {format_bytes(totals.weight_bytes)}"
            f", {folded} BatchNormalizations being folded into their Conv"
        )
    yield Text(f"{learned}, {stored}")
    yield Text(f"{totals.macs:,} MACs, {totals.flops:,} FLOPs")
    yield Text(f"{format_bytes(totals.peak_activation_bytes)} of activations alive at the peak")
    if report.symbols:
        symbols = ", ".join(map(printable, report.symbols))
        yield Text(f"{symbols} counted as 1 in MACs, FLOPs and bytes", "dim")
    yield from _legend(report)
    for note in report.notes:
        yield Text(f"note: {printable(note)}", "yellow")


def _legend(report: Report) -> Iterable[Text]:
    """What the marks in the table mean, each where it occurs."""
    fields = [layer.receptive_field for layer in report.layers]
    if any(sees.global_since for sees in fields):
        since = next(sees.global_since for sees in fields if sees.global_since)
        first = printable(shown_name(report.layer(since)))
        yield Text(f"all: sees the whole picture, first at {first}", "dim")
    if any(not sees.aligned for sees in fields):
        yield Text("~: branches with different strides or centres meet at or before here", "dim")
    if any(layer.status != "exact" for layer in report.layers):
        names = dict.fromkeys(layer.op_type for layer in report.layers if layer.status == "unknown")
        unknown = ", ".join(map(printable, names))
        yield Text(
            f"?: not known{f'; operators not understood: {unknown}' if unknown else ''}", "dim"
        )
