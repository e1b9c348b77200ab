"""Transfer functions of the operators that read or write at places which indices name.

Where the places are computed from the picture, as those of the best boxes, any position may see
any pixel.
"""

from collections.abc import Mapping
from dataclasses import replace

from convlens.analysis.digits import Digit
from convlens.analysis.field import Field, Missing, earliest
from convlens.analysis.shape import Dim, Tensor
from convlens.analysis.step import Step, Transfer
from convlens.analysis.transfers_moves import concatenated, gathered, stretch


def from_anywhere(step: Step) -> Field:
    """Every position may see the whole picture, so that no local path is left to be known."""
    fields = step.known_fields
    missing = max(field.missing for field in fields)
    return Field(
        axes=tuple((Digit(dim),) for dim in step.output or ()),
        views=(None,) * max(len(field.views) for field in fields),
        global_since=earliest([step.node.index, *(field.global_since for field in fields)]),
        misaligned_since=earliest(field.misaligned_since for field in fields),
        missing=missing if missing is Missing.OPERATOR else Missing.NOTHING,
    )


def _read_at(step: Step) -> Field:
    """Gather, GatherElements and GatherND: the second input says where to read."""
    if step.field(1) is not None:
        return from_anywhere(step)
    return gathered(step) if step.node.op_type == "Gather" else step.unknown()


def _written_at(step: Step) -> Field:
    """ScatterElements and ScatterND: the second input says where the third is written."""
    return step.unknown() if step.field(1) is None else from_anywhere(step)


def _rows_replaced(step: Step) -> Field:
    """ScatterND of rows that follow each other: a Concat of what is kept and what is new."""
    run, data, indices = step.run(1), step.shape(0), step.shape(1)
    is_replacing = step.node.attributes.get("reduction", "none") == "none"
    if step.field(1) is not None or run is None or not data or not is_replacing:
        return _written_at(step)
    length = data[0]
    if not indices or len(indices) != 2 or indices[1] != 1 or not isinstance(length, int):
        return step.unknown()
    if run.start < 0 or run.stop > length:
        return step.unknown()
    updates = step.node.input(2)
    pieces = {
        "before": (_kept(step, 0, run.start), run.start),
        updates: (step.field(2), len(run)),
        "after": (_kept(step, run.stop, length - run.stop), length - run.stop),
    }
    pieces = {name: piece for name, piece in pieces.items() if piece[1]}
    if len(pieces) == 1:
        field = step.field(2)
        return step.unknown() if field is None else field
    shapes = {name: Tensor(name, "", (rows, *data[1:])) for name, (_, rows) in pieces.items()}
    node = replace(step.node, inputs=tuple(pieces), op_type="Concat", attributes={"axis": 0})
    fields = tuple(field for field, _ in pieces.values())
    return concatenated(replace(step, node=node, fields=fields, tensors={**shapes}))


def _kept(step: Step, begin: int, rows: int) -> Field | None:
    field = step.field(0)
    if field is None or not rows:
        return None
    shape: tuple[Dim, ...] = (rows, *(step.shape(0) or ())[1:])
    return stretch(replace(step, output=shape), field, 0, begin)


CHOICES: Mapping[str, Transfer] = {
    **dict.fromkeys(
        ("Compress", "NonMaxSuppression", "NonZero", "RoiAlign", "TopK", "Unique"), from_anywhere
    ),
    **dict.fromkeys(("Gather", "GatherElements", "GatherND"), _read_at),
    "ScatterElements": _written_at,
    "ScatterND": _rows_replaced,
}
