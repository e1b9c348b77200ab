"""The report as CSV: a row a layer, for a spreadsheet or a data frame."""

import csv
import io

from convlens.analysis.receptive_field import PerAxis
from convlens.analysis.report import Layer, Report

COLUMNS = (
    "index",
    "name",
    "op_type",
    "scope",
    "output_shape",
    "learnable",
    "statistics",
    "macs",
    "flops",
    "weight_bytes",
    "activation_bytes",
    "receptive_field_size",
    "receptive_field_stride",
    "receptive_field_start",
    "global_since",
    "aligned",
    "status",
)


def report_csv(report: Report) -> str:
    """The layers as RFC 4180 has it; what is not known is left empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    writer.writerows(map(_row, report.layers))
    return buffer.getvalue()


def _row(layer: Layer) -> tuple[object, ...]:
    sees = layer.receptive_field
    return (
        layer.index,
        layer.name,
        layer.op_type,
        layer.scope,
        _shape(layer),
        layer.parameters.learnable,
        layer.parameters.statistics,
        layer.macs,
        layer.flops,
        layer.weight_bytes,
        layer.activation_bytes,
        _axes(sees.size),
        _axes(sees.stride),
        _axes(sees.start),
        sees.global_since,
        str(sees.aligned).lower(),
        layer.status,
    )


def _shape(layer: Layer) -> str:
    shape = layer.outputs[0].shape if layer.outputs else None
    return ",".join(map(str, shape or ()))


def _axes(values: PerAxis) -> str:
    return ",".join("" if value is None else str(value) for value in values or ())
