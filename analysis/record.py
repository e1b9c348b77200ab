"""Records: one flat mapping a layer, the row of a CSV file or of a data frame."""

from typing import Any

from convlens.analysis.layer import Layer

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
    "reason",
)


def layer_record(layer: Layer) -> dict[str, Any]:
    """The layer's numbers by the names in COLUMNS; tuples an axis, None for what is not known."""
    sees = layer.receptive_field
    values = (
        layer.index,
        layer.name,
        layer.op_type,
        layer.scope,
        layer.output_shape,
        layer.parameters.learnable,
        layer.parameters.statistics,
        layer.macs,
        layer.flops,
        layer.weight_bytes,
        layer.activation_bytes,
        sees.size,
        sees.stride,
        sees.start,
        sees.global_since,
        sees.aligned,
        layer.status,
        layer.certainty.reason,
    )
    return dict(zip(COLUMNS, values, strict=True))
