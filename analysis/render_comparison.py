"""A comparison as text: what was changed, what was added and removed, and what it comes to."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from convlens.analysis.comparison import Comparison, Difference, Kind
from convlens.analysis.layer import Layer
from convlens.analysis.layer_table import shown_name
from convlens.analysis.text_layout import printable

_MARKS = {"changed": ("~", "yellow"), "removed": ("-", "red"), "added": ("+", "green")}
_KINDS: Mapping[Kind, str] = {
    "same": "the same",
    "changed": "changed",
    "removed": "removed",
    "added": "added",
    "consequence": "other only in size, MACs or receptive field, as a consequence",
}
_TOTALS = {
    "learnable": "parameters",
    "macs": "MACs",
    "flops": "FLOPs",
    "weight_bytes": "weight bytes",
    "peak_activation_bytes": "peak activation bytes",
}


def comparison_text(comparison: Comparison) -> RenderableType:
    """The comparison for a reader; layers that only see more or less are counted, not listed."""
    first, second = comparison.first.model.path, comparison.second.model.path
    return Group(
        Text(printable(f"{first} -> {second}"), "bold"),
        Text(_counted(comparison)),
        Text(),
        *_strides(comparison),
        *_layers(comparison),
        _totals(comparison),
    )


def _counted(comparison: Comparison) -> str:
    listed = [difference for difference in comparison.differences if not difference.is_idle]
    counts = Counter(difference.kind for difference in listed)
    parts = [f"{counts[kind]} {text}" for kind, text in _KINDS.items() if counts[kind]]
    idle = len(comparison.differences) - len(listed)
    if idle:
        parts.append(f"{idle} without counterpart that only pass on what they get")
    return f"layers: {', '.join(parts) or 'none'}"


def _strides(comparison: Comparison) -> Iterable[Text]:
    """Where strides have moved, in one line."""
    moved: Counter[str] = Counter()
    for difference in comparison.differences:
        before, after = difference.changes.get("strides", (None, None))
        if difference.first is not None and (before or after):
            kernel = _kernel(difference.first)
            moved[
                f"stride {_axes(before or [1])} -> {_axes(after or [1])} in {{}} "
                f"{difference.first.op_type}{f' {kernel}' if kernel else ''}"
            ] += 1
    if moved:
        yield Text(printable("; ".join(text.format(count) for text, count in moved.items())))
        yield Text()


def _kernel(layer: Layer) -> str:
    kernel = layer.attributes.get("kernel_shape")
    if not kernel and layer.op_type == "Conv" and len(layer.inputs) > 1:
        kernel = (layer.input_shape(1) or ())[2:]
    return "x".join(map(str, kernel or ()))


def _layers(comparison: Comparison) -> Iterable[RenderableType]:
    shown = [
        difference
        for difference in comparison.differences
        if difference.kind in _MARKS and not difference.is_idle
    ]
    if not shown:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "layer", "op", "what", "before", "after"):
        table.add_column(heading, overflow="fold")
    for difference in shown:
        mark, style = _MARKS[difference.kind]
        for index, cells in enumerate(_cells(difference)):
            table.add_row(Text(mark if index == 0 else ""), *map(Text, cells), style=style)
    yield table
    yield Text()


def _cells(difference: Difference) -> Iterable[tuple[str, ...]]:
    layer = difference.second or difference.first
    assert layer is not None
    name, op_type = printable(shown_name(layer)), printable(layer.op_type)
    if not difference.changes:
        shape = f"[{','.join(map(str, layer.output_shape or ()))}]" if layer.outputs else ""
        before, after = ("", shape) if difference.first is None else (shape, "")
        yield name, op_type, "output", printable(before), printable(after)
    for index, (key, (before, after)) in enumerate(difference.changes.items()):
        head = (name, op_type) if index == 0 else ("", "")
        if key == "receptive_field":
            yield *head, "sees", _sees(before), _sees(after)
        else:
            yield *head, printable(key), _value(before), _value(after)


def _sees(field: dict[str, Any]) -> str:
    if field["size"] is None:
        return "all"
    return f"{_axes(field['size'])}, stride {_axes(field['stride'])}"


def _axes(values: list[Any]) -> str:
    texts = ["all" if value is None else str(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else "x".join(texts)


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return printable(",".join(map(str, value)) if isinstance(value, list) else str(value))


def _totals(comparison: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("total")
    for heading in ("before", "after", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    totals = comparison.totals
    for key, heading in _TOTALS.items():
        before, after = totals[key]
        table.add_row(heading, f"{before:,}", f"{after:,}", _percent(before, after))
    fields = (_axes(size) if size else "none" for size in totals["receptive_field"])
    table.add_row("receptive field", *fields, "")
    return table


def _percent(before: int, after: int) -> str:
    if before == after:
        return ""
    return f"{100 * (after / before - 1):+.1f} %" if before else "new"
