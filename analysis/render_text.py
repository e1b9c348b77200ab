"""The report as text: a table that fits a terminal, and is never cut where it goes elsewhere."""

import io
from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from convlens.analysis.convention import ConventionTotals
from convlens.analysis.interval import Number
from convlens.analysis.receptive_field import PerAxis, ReceptiveField
from convlens.analysis.report import Layer, Report
from convlens.analysis.shape import Tensor, format_shape

# Wider than any table, so that nothing is cut.
_UNLIMITED_COLUMNS = 1_000_000


def report_text(report: Report) -> RenderableType:
    """The report for a reader: what the file is, a row a layer, the totals, the notes."""
    return Group(*_head(report), Text(), _layer_table(report), Text(), *_totals(report))


def plain(renderable: RenderableType) -> str:
    """The text as it goes into a pipe or a file: no colour, nothing cut, no trailing blanks."""
    buffer = io.StringIO()
    Console(file=buffer, width=_UNLIMITED_COLUMNS, color_system=None).print(renderable)
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def printable(text: str) -> str:
    """The text with everything escaped that would move a terminal's cursor or change its colour."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shown_name(layer: Layer) -> str:
    """What a reader knows the layer by: a name made of its module, or else the module itself."""
    scope = layer.scope or layer.name
    return printable(layer.name if layer.name.startswith(scope) else scope)


def format_axes(values: PerAxis) -> str:
    """One number where all axes agree, else as 7x5; empty where there is none."""
    if values is None:
        return ""
    texts = ["all" if value is None else format_number(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else "x".join(texts)


def format_number(number: Number) -> str:
    """An integer with thousands separators, a fraction as 1/2."""
    return f"{number:,}" if isinstance(number, int) else str(number)


def format_bytes(count: int) -> str:
    """The size in the decimal unit that leaves one to three digits before the point."""
    if count < 1000:
        return f"{count} bytes"
    for unit, factor in (("kB", 10**3), ("MB", 10**6)):
        if count < 999.95 * factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 10**9:,.1f} GB"


def _head(report: Report) -> Iterable[Text]:
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


def _layer_table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    # The one column that may be shortened to fit the terminal.
    table.add_column("layer", overflow="ellipsis", min_width=10)
    table.add_column("op", no_wrap=True, style="cyan")
    table.add_column("output", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("MACs", justify="right", no_wrap=True)
    table.add_column("sees", justify="right", no_wrap=True, style="green")
    table.add_column("stride", justify="right", no_wrap=True)
    table.add_column("start", justify="right", no_wrap=True)
    for layer in report.layers:
        table.add_row(
            *map(Text, _cells(layer)), style=None if layer.status == "exact" else "yellow"
        )
    return table


def _cells(layer: Layer) -> tuple[str, ...]:
    output = layer.outputs[0].shape if layer.outputs else None
    parameters = layer.parameters.learnable + layer.parameters.statistics
    sees = layer.receptive_field
    return (
        str(layer.index),
        shown_name(layer),
        printable(layer.op_type),
        printable(format_shape(output)),
        f"{parameters:,}" if parameters else "",
        _macs(layer),
        _sees(sees),
        format_axes(sees.stride),
        format_axes(sees.start),
    )


def _macs(layer: Layer) -> str:
    if layer.formulas is not None and layer.macs != 0:
        return printable(layer.formulas.macs or "?")
    return "?" if layer.macs is None else f"{layer.macs:,}" if layer.macs else ""


def _sees(sees: ReceptiveField) -> str:
    """The receptive field's size, with what must be known of it: all, misaligned, incomplete."""
    size = format_axes(sees.size)
    if not sees.complete:
        return f"{size}+?" if size else "?"
    if sees.global_since is not None:
        size = f"{size} + all" if size else "all"
    return size if sees.aligned or not size else f"{size} ~"


def _totals(report: Report) -> Iterable[Text]:
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
    if totals.formulas is None:
        yield Text(f"{totals.macs:,} MACs, {totals.flops:,} FLOPs")
        yield Text(f"{format_bytes(totals.peak_activation_bytes)} of activations alive at the peak")
    else:
        yield Text(printable(f"MACs: {totals.formulas.macs}"))
        yield Text(printable(f"FLOPs: {totals.formulas.flops}"))
        peak = printable(
            f"bytes of activations alive at the peak: {totals.formulas.activation_bytes}"
        )
        yield Text(peak)
    if report.symbols and totals.formulas is None:
        symbols = ", ".join(map(printable, report.symbols))
        yield Text(f"{symbols} counted as 1 in MACs, FLOPs and bytes", "dim")
    yield from _legend(report)
    for note in report.notes:
        yield Text(f"note: {printable(note)}", "yellow")


def convention_text(totals: ConventionTotals) -> Text:
    """A model's totals as another tool counts them, and how they differ from ours."""
    return Text(
        f"{totals.convention}: {totals.parameters:,} parameters, {totals.operations:,} "
        f"{totals.unit}: {totals.explanation}"
    )


def _legend(report: Report) -> Iterable[Text]:
    """What the marks in the table mean, each where it occurs."""
    fields = [layer.receptive_field for layer in report.layers]
    if any(sees.global_since for sees in fields):
        since = next(sees.global_since for sees in fields if sees.global_since)
        first = shown_name(report.layer(since))
        yield Text(f"all: sees the whole picture, first at {first}", "dim")
    if any(not sees.aligned for sees in fields):
        yield Text("~: branches with different strides or centres meet at or before here", "dim")
    if any(layer.status != "exact" for layer in report.layers):
        names = dict.fromkeys(layer.op_type for layer in report.layers if layer.status == "unknown")
        unknown = ", ".join(map(printable, names))
        yield Text(
            f"?: not known{f'; operators not understood: {unknown}' if unknown else ''}", "dim"
        )
