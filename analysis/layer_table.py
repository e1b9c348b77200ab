"""The table of layers as plain texts, before it becomes a terminal's, a page's or Markdown's."""

from dataclasses import dataclass
from typing import Literal

from convlens.analysis.layer import Layer
from convlens.analysis.module_tree import Module, group_by_module
from convlens.analysis.number import Number, to_float
from convlens.analysis.receptive_field import PerAxis, ReceptiveField
from convlens.analysis.report import Report
from convlens.analysis.shape import format_shape

RowKind = Literal["layer", "module"]


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes:
        key: by which it is named in the code.
        heading: what a reader sees.
        meaning: a sentence for a legend or a tooltip.
        numeric: whether its cells are aligned to the right.
    """

    key: str
    heading: str
    meaning: str
    numeric: bool = False


COLUMNS = (
    Column("index", "#", "position in the order of execution", numeric=True),
    Column("name", "layer", "the module or node"),
    Column("op", "op", "the ONNX operator"),
    Column("output", "output", "shape of the first output"),
    Column("parameters", "parameters", "learnable weights and statistics", numeric=True),
    Column("macs", "MACs", "multiply-accumulates of one run", numeric=True),
    Column("sees", "sees", "size of the receptive field, in pixels", numeric=True),
    Column("stride", "stride", "pixels between what two neighbours see", numeric=True),
    Column("start", "start", "first pixel that position 0 sees", numeric=True),
)


@dataclass(frozen=True)
class Row:
    """One row of the table: a layer, or a module with the sums of its layers.

    Attributes:
        kind: which of the two.
        cells: the texts, one a column of COLUMNS; texts of the file are as they stand there.
        values: what the cells say, for sorting; None where there is nothing.
        certain: False where a number is missing or disputed.
        last: the layer, or the module's last one.
    """

    kind: RowKind
    cells: tuple[str, ...]
    values: tuple[int | float | str | None, ...]
    certain: bool
    last: Layer


def layer_rows(report: Report) -> tuple[Row, ...]:
    """A row a layer, under each run of layers of one module the module's own row first."""
    rows: list[Row] = []
    for group in group_by_module(report.layers):
        if group.is_headed:
            rows.append(_module_row(group))
        rows += map(_layer_row, group.layers)
    return tuple(rows)


def module_rows(report: Report, depth: int) -> tuple[Row, ...]:
    """A row for each run of layers that are in the same module, at most `depth` levels down."""
    groups = group_by_module(report.layers, depth)
    return tuple(
        _module_row(group) if len(group.layers) > 1 else _layer_row(group.layers[0])
        for group in groups
    )


def shown_name(layer: Layer) -> str:
    """What a reader knows the layer by: a name made of its module, or else the module itself."""
    scope = layer.scope or layer.name
    return layer.name if layer.name.startswith(scope) else scope


def sees_text(sees: ReceptiveField) -> str:
    """The receptive field's size, with what must be known of it: all, misaligned, incomplete."""
    size = axes_text(sees.size)
    if not sees.complete:
        return f"{size}+?" if size else "?"
    if sees.global_since is not None:
        size = f"{size} + all" if size else "all"
    return size if sees.aligned or not size else f"{size} ~"


def axes_text(values: PerAxis) -> str:
    """One number where all axes agree, else as 7x5; empty where there is none."""
    if values is None:
        return ""
    texts = ["all" if value is None else number_text(value) for value in values]
    return texts[0] if len(set(texts)) == 1 else "x".join(texts)


def number_text(number: Number) -> str:
    """An integer with thousands separators, a fraction as 1/2."""
    return f"{number:,}" if isinstance(number, int) else str(number)


def _layer_row(layer: Layer) -> Row:
    return _row("layer", shown_name(layer), layer.op_type, (layer,))


def _module_row(module: Module) -> Row:
    return _row("module", module.name, f"{len(module.layers)} layers", module.layers)


def _row(kind: RowKind, name: str, op: str, layers: tuple[Layer, ...]) -> Row:
    last = layers[-1]
    output = last.output_shape
    parameters = sum(layer.parameters.learnable + layer.parameters.statistics for layer in layers)
    known = [layer.macs for layer in layers if layer.macs is not None]
    macs = sum(known) if known else None
    sees = last.receptive_field
    return Row(
        kind=kind,
        cells=(
            str(last.index) if kind == "layer" else "",
            name,
            op,
            format_shape(output),
            f"{parameters:,}" if parameters else "",
            _macs_text(layers, macs),
            sees_text(sees),
            axes_text(sees.stride),
            axes_text(sees.start),
        ),
        values=(
            layers[0].index,
            name,
            op,
            format_shape(output),
            parameters,
            macs,
            _largest(sees.size),
            _largest(sees.stride),
            _largest(sees.start),
        ),
        certain=all(layer.status == "exact" for layer in layers),
        last=last,
    )


def _macs_text(layers: tuple[Layer, ...], macs: int | None) -> str:
    formula = layers[0].formulas
    if len(layers) == 1 and formula is not None and macs != 0:
        return formula.macs or "?"
    return "?" if macs is None else f"{macs:,}" if macs else ""


def _largest(values: PerAxis) -> float | None:
    known = [to_float(value) for value in values or () if value is not None]
    return max(known, default=None)
