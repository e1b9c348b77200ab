"""The report as text: a table that fits a terminal, and is never cut where it goes elsewhere."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convlens.analysis.convention import ConventionTotals, in_convention
from convlens.analysis.layer import Formulas
from convlens.analysis.layer_table import Column, Row, layer_rows, module_rows, shown_name
from convlens.analysis.line import Line, line
from convlens.analysis.report import Report
from convlens.analysis.shape import Tensor, format_shape
from convlens.analysis.text_layout import fit, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

# Wider than any table, so that nothing is cut.
_UNLIMITED_COLUMNS = 1_000_000


@dataclass(frozen=True)
class ReportText:
    """The report for a reader; rich can print it, at the width that it then has.

    Attributes:
        report: of the model.
        depth: gives a row a module instead, that many levels down; None gives every layer.
        convention: in whose terms the totals are stated too; None for ours alone.
    """

    report: Report
    depth: int | None = None
    convention: str | None = None

    def lines(self, width: int) -> Iterator[Line]:
        """What the file is, a row a layer, the totals, the notes; only the table is fitted."""
        rows = (
            layer_rows(self.report) if self.depth is None else module_rows(self.report, self.depth)
        )
        yield from heading_lines(self.report)
        yield Line()
        yield from _table_lines(rows, width)
        yield Line()
        yield from total_lines(self.report)
        if self.convention is not None:
            yield convention_line(in_convention(self.report, self.convention))

    def __rich_console__(self, _: "Console", options: "ConsoleOptions") -> "RenderResult":
        yield from self.lines(options.max_width)


def report_text(
    report: Report, depth: int | None = None, convention: str | None = None
) -> ReportText:
    """The report for a reader: what the file is, a row a layer, the totals, the notes.

    Args:
        report: of the model.
        depth: gives a row a module instead, that many levels down; None gives every layer.
        convention: in whose terms the totals are stated too; None for ours alone.
    """
    return ReportText(report, depth, convention)


def plain(text: "RenderableType") -> str:
    """The text as it goes into a pipe or a file: no colour, nothing cut, no trailing blanks."""
    if isinstance(text, ReportText):
        # Without rich, whose import takes longer than the analysis.
        lines: Iterable[str] = (shown.plain for shown in text.lines(_UNLIMITED_COLUMNS))
    else:
        import io

        from rich.console import Console

        buffer = io.StringIO()
        Console(file=buffer, width=_UNLIMITED_COLUMNS, color_system=None).print(text)
        lines = buffer.getvalue().splitlines()
    return "".join(f"{shown.rstrip()}\n" for shown in lines)


def format_bytes(count: int) -> str:
    """The size in the decimal unit that leaves one to three digits before the point."""
    if count < 1000:
        return f"{count} bytes"
    for unit, factor in (("kB", 10**3), ("MB", 10**6)):
        if count < 999.95 * factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 10**9:,.1f} GB"


def heading_lines(report: Report) -> Iterator[Line]:
    """What the file is, a line each; its name first."""
    model = report.model
    name = model.card.model.get("name") or model.path
    yield Line(((printable(str(name)), "bold"), *_weights(report)))
    facts = [f"opset {model.opset}", printable(model.producer), format_bytes(model.file_bytes)]
    yield line(", ".join(fact for fact in facts if fact), "dim")
    inputs = ", ".join(map(_tensor, report.inputs))
    outputs = ", ".join(map(_tensor, report.outputs))
    yield line(f"{inputs} -> {outputs}")


def _weights(report: Report) -> Iterator[tuple[str, str]]:
    """Where the weights came from; that they are random is not to be overlooked."""
    weights = report.model.card.weights
    origin = report.model.card.weights_origin
    details = [origin] if origin else []
    stated = [key for key in ("seed", "dataset", "source") if weights.get(key) is not None]
    details += [f"{key} {weights[key]}" for key in stated]
    if details:
        style = "bold yellow" if origin == "random" else ""
        yield f"   weights: {printable(', '.join(details))}", style


def _tensor(tensor: Tensor) -> str:
    return f"{printable(tensor.name)} {tensor.dtype}[{printable(format_shape(tensor.shape))}]"


_STYLES = {"index": "dim", "op": "cyan", "sees": "green"}


def _table_lines(rows: Sequence[Row], width: int) -> Iterator[Line]:
    layout = fit(rows, width)
    headings = [column.heading for column in layout.columns]
    shape = list(zip(layout.columns, layout.widths, strict=True))
    yield Line(tuple((text, "bold") for text in _padded(headings, shape)))
    for row, cells in zip(rows, layout.cells, strict=True):
        styles = (_row_style(row) or _STYLES.get(column.key, "") for column in layout.columns)
        yield Line(tuple(zip(_padded(cells, shape), styles, strict=True)))
    if layout.dropped:
        dropped = ", ".join(column.heading for column in layout.dropped)
        yield line(f"not shown at this width: {dropped}", "dim")


def _padded(cells: Sequence[str], shape: Sequence[tuple[Column, int]]) -> Iterator[str]:
    """The cells as wide as their columns, two blanks between them."""
    for index, (cell, (column, width)) in enumerate(zip(cells, shape, strict=True)):
        gap = "  " if index else ""
        yield gap + (cell.rjust(width) if column.numeric else cell.ljust(width))


def _row_style(row: Row) -> str:
    if row.kind == "module":
        return "bold"
    return "" if row.certain else "yellow"


def total_lines(report: Report) -> Iterator[Line]:
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
    yield line(f"{learned}, {stored}")
    if totals.formulas is not None:
        yield from _formula_lines(totals.formulas)
    else:
        yield from _number_lines(report)
    yield from _legend(report)
    for note in report.notes:
        yield line(f"note: {printable(note)}", "yellow")


def _number_lines(report: Report) -> Iterator[Line]:
    """MACs, FLOPs and memory, and how far they are to be believed."""
    totals, layers = report.totals, report.layers
    # What an operator that is not understood computes may be products.
    strange = any(layer.status == "unknown" for layer in layers)
    macs = _at_least(strange or any(layer.macs is None for layer in layers))
    flops = _at_least(strange or any(layer.flops is None for layer in layers))
    peak = _at_least(any(layer.activation_bytes is None for layer in layers))
    yield line(f"{macs}{totals.macs:,} MACs, {flops}{totals.flops:,} FLOPs")
    held = format_bytes(totals.peak_activation_bytes)
    yield line(f"{peak}{held} of activations alive at the peak")
    symbols = list(report.symbols)
    computed = report.computed_symbols
    if computed:
        more = f" and {len(computed) - 1} more" if len(computed) > 1 else ""
        symbols.append(f"{computed[0]}{more}, computed in the network,")
    if symbols:
        names = ", ".join(map(printable, symbols))
        yield line(f"{names} counted as 1 in MACs, FLOPs and bytes", "dim")


def _at_least(is_bound: bool) -> str:
    return "at least " if is_bound else ""


def _formula_lines(formulas: Formulas) -> Iterator[Line]:
    yield line(printable(f"MACs: {formulas.macs}"))
    yield line(printable(f"FLOPs: {formulas.flops}"))
    yield line(printable(f"bytes alive at the peak: {formulas.activation_bytes}"))


def convention_line(totals: ConventionTotals) -> Line:
    """A model's totals as another tool counts them, and how they differ from ours."""
    return line(
        f"{totals.convention}: {totals.parameters:,} parameters, {totals.operations:,} "
        f"{totals.unit}: {totals.explanation}"
    )


def _legend(report: Report) -> Iterator[Line]:
    """What the marks in the table mean, each where it occurs."""
    fields = [layer.receptive_field for layer in report.layers]
    if any(sees.global_since for sees in fields):
        since = next(sees.global_since for sees in fields if sees.global_since)
        first = printable(shown_name(report.layer(since)))
        yield line(f"all: sees the whole picture, first at {first}", "dim")
    if any(not sees.aligned for sees in fields):
        yield line("~: branches with different strides or centres meet at or before here", "dim")
    uncertain = [layer for layer in report.layers if layer.certainty.reason is not None]
    if uncertain:
        names = dict.fromkeys(layer.op_type for layer in uncertain if layer.status == "unknown")
        why = f"{shown_name(uncertain[0])}: {uncertain[0].certainty.reason}"
        if names:
            why = f"operators not understood: {', '.join(names)}"
        yield line(
            printable(f"?: not known in {len(uncertain)} of {len(report.layers)} layers; {why}"),
            "dim",
        )
