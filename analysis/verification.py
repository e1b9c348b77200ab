"""Verification: what a run of the model says about what was computed of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convlens.analysis.errors import SymbolicShapeError, VerificationError
from convlens.analysis.field import Field
from convlens.analysis.functions import inline_functions
from convlens.analysis.graph import Graph
from convlens.analysis.graph_reader import ONNX_DOMAINS, read_graph
from convlens.analysis.hazards import find_hazard, find_runtime_hazard, mend_dims
from convlens.analysis.interval import Span
from convlens.analysis.measurement import (
    OpenSession,
    Sighting,
    Unit,
    measure,
    position_of,
    units_of,
    walking_axes,
)
from convlens.analysis.model_file import read_model
from convlens.analysis.receptive_field import trace_fields
from convlens.analysis.shape import Dim, Tensor
from convlens.analysis.shapes import infer_shapes
from convlens.analysis.trial_run import run_shapes, shape_differences
from convlens.analysis.view import View

# The corners, the centre and one unit drawn by chance.
DEFAULT_UNITS = 4


@dataclass(frozen=True)
class Verification:
    """What was compared with a run, and where it differs.

    Attributes:
        shapes: how many tensors' shapes were compared.
        units: how many units' receptive fields were compared, each axis counted.
        layers: in how many layers these units lie.
        not_compared: what could not be compared and why, a line each.
        differences: what differs, a line each; empty where all is as computed.
    """

    shapes: int
    units: int
    layers: int
    not_compared: tuple[str, ...]
    differences: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    @property
    def lines(self) -> tuple[str, ...]:
        """For a reader: what agreed, what differs, what could not be compared."""
        differing = len(self.differences)
        return (
            f"compared with a run: {self.shapes} shapes, "
            f"{self.units} receptive fields of units in {self.layers} layers",
            *(f"differs: {line}" for line in self.differences),
            *(f"not compared: {line}" for line in self.not_compared),
            f"{differing} of them differ" if differing else "all agree",
        )


def verify(
    path: str | Path,
    open_session: OpenSession,
    batch: int | None = None,
    input_size: Sequence[int] | None = None,
    units: int = DEFAULT_UNITS,
) -> Verification:
    """Run the model and compare every shape, and measure the receptive fields of some units.

    Args:
        path: of the file; its weights must be readable.
        open_session: of the runtime, which is the caller's choice.
        batch: the batch size; None keeps the file's, or 1 where that is symbolic.
        input_size: (height, width) of the picture; None keeps the file's.
        units: how many to measure in each layer.

    Raises:
        ModelFileError: the file or its weights cannot be read.
        InputSizeError: the network cannot take a picture of that size.
        VerificationError: the model cannot be run.
    """
    proto = inline_functions(read_model(path).proto)
    mend_dims(proto.graph)
    hazard = find_hazard(proto.graph) or find_runtime_hazard(proto)
    if hazard is not None:
        raise VerificationError(f"{path}: the runtime would not survive {hazard}")
    graph = read_graph(proto.graph)
    if batch is None and any(isinstance(_batch(tensor), str) for tensor in graph.inputs):
        batch = 1
    inferred = infer_shapes(proto, graph, batch, input_size)
    tensors = inferred.tensors
    actual = run_shapes(path, graph, tensors, open_session)
    differences = list(shape_differences(tensors, actual))
    bound = {
        name: Tensor(name, tensor.dtype, actual.get(name, tensor.shape))
        for name, tensor in tensors.items()
    }
    opset = max((o.version for o in proto.opset_import if o.domain in ONNX_DOMAINS), default=0)
    fields = trace_fields(graph, bound, opset, inferred.folded, exact=True)
    chosen, skipped = _chosen(graph, fields, units)
    measured = 0
    for image_axis in range(max((len(field.views) for field in fields.values()), default=0)):
        local = [unit for unit in chosen if _view(fields[unit.tensor], image_axis) is not None]
        if not local:
            continue
        try:
            sightings = measure(proto, graph, bound, fields, opset, image_axis, local, open_session)
        except SymbolicShapeError as error:
            skipped.append(f"receptive fields: {error}")
            break
        differences += field_differences(sightings, fields, image_axis)
        measured += len(local)
    return Verification(
        shapes=len(actual),
        units=measured,
        layers=len({unit.tensor for unit in chosen}),
        not_compared=tuple(skipped),
        differences=tuple(differences),
    )


def _batch(tensor: Tensor) -> Dim | None:
    return tensor.shape[0] if tensor.shape else None


def _view(field: Field, image_axis: int) -> View | None:
    return field.views[image_axis] if image_axis < len(field.views) else None


def _chosen(graph: Graph, fields: Mapping[str, Field], count: int) -> tuple[list[Unit], list[str]]:
    """The units to measure, and why others are not measured.

    A layer that passes on what it gets, value by value, is one with the layer before it.
    """
    random = np.random.default_rng(0)
    units: list[Unit] = []
    unknown: list[str] = []
    for node in graph.nodes:
        field = fields.get(node.output)
        if field is None or any(_passes_on(fields.get(name), field) for name in node.inputs):
            continue
        if not field.complete:
            unknown.append(node.name)
        elif any(view is not None for view in field.views):
            units += units_of(node.output, field, count, random)
    notes = []
    if unknown:
        notes.append(
            f"the receptive fields of {len(unknown)} layers, {unknown[0]} the first of them"
        )
    return units, notes


def _passes_on(before: Field | None, after: Field) -> bool:
    return (
        before is not None
        and before.axes == after.axes
        and all(old is new for old, new in zip(before.views, after.views, strict=False))
    )


def field_differences(
    sightings: Mapping[Unit, Sighting], fields: Mapping[str, Field], image_axis: int
) -> Iterator[str]:
    """Say where units see something else along an image axis than what was computed.

    Args:
        sightings: what was seen in a run.
        fields: what was computed, of the units' tensors.
        image_axis: along which it was seen.
    """
    for unit, sighting in sightings.items():
        field = fields[unit.tensor]
        view = field.views[image_axis]
        assert view is not None
        if _picks_a_channel(field):
            view = view.loosened()
        position = position_of(unit, field, image_axis)
        expected = _expected(field, unit, image_axis)
        where = f"{unit.tensor}{list(unit.index)}, image axis {image_axis}"
        if expected is not None and sighting != expected:
            yield (
                f"{where}: sees {_span(sighting)} in a run, "
                f"and was computed to see {_span(expected)}"
            )
        elif not _fits(sighting, view, position):
            yield f"{where}: sees {_span(sighting)} in a run, which is not its receptive field"


def _picks_a_channel(field: Field) -> bool:
    """Whether a unit's index picks one of channels that see less than all of them together."""
    return field.is_blended and any(len(field.axes[axis]) > 1 for axis in walking_axes(field))


def _expected(field: Field, unit: Unit, image_axis: int) -> Sighting | None:
    """What the unit is computed to see of this picture; None where that is known but roughly."""
    found: Sighting | None = None
    if _picks_a_channel(field):
        return None
    for axis, view in enumerate(field.views):
        if view is None:
            continue
        if view.extents is None:
            return None
        position = position_of(unit, field, axis)
        first, last = int(view.extents.first[position]), int(view.extents.last[position])
        if last < 0:
            # What lies in the padding along one axis is dark whatever is lit along another.
            return Sighting(None, None)
        if axis == image_axis:
            found = Sighting(first, last)
    return found


def _fits(sighting: Sighting, view: View, position: int) -> bool:
    """Whether the formula's interval covers what was seen, and is it where nothing is cut off.

    Args:
        sighting: what was seen.
        view: what was computed.
        position: of the unit.
    """
    if sighting.first is None or sighting.last is None:
        return True
    seen = Span(sighting.first, sighting.last + 1)
    window = view.window(position)
    if view.tight is not None and view.tight.holds(window):
        return seen == window
    is_in_span = view.span is None or view.span.holds(seen)
    return is_in_span and (view.is_mirrored or window.holds(seen))


def _span(sighting: Sighting) -> str:
    if sighting.first is None:
        return "nothing"
    return f"pixels {sighting.first} to {sighting.last}"
