"""Shapes through the operators with bodies: If, Loop and Scan."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from convlens.analysis.bounds import evaluate, greatest
from convlens.analysis.graph import Graph
from convlens.analysis.shape import Tensors
from convlens.analysis.shape_step import Counts, Shapes, ShapeStep
from convlens.analysis.symbolic import Count, symbol
from convlens.analysis.values import Values

if TYPE_CHECKING:
    from convlens.analysis.shape_pass import ShapePass


@dataclass(frozen=True)
class Body:
    """A graph inside an If, Loop or Scan, and what is known of its tensors.

    Attributes:
        graph: the body.
        tensors: its own tensors and those around it; of a Loop, as in its first trip.
        bodies: those inside it, by the index of its node.
        runs: how often it is run as it stands here where its node is; None where that is computed.
    """

    graph: Graph
    tensors: Tensors
    bodies: Mapping[int, tuple["Body", ...]]
    runs: int | None


def body_outputs(around: "ShapePass", step: ShapeStep) -> tuple[Shapes, tuple[Body, ...]]:
    """The shapes of what an If, Loop or Scan gives, and its bodies; (None, ()) for others."""
    function = _FUNCTIONS.get(step.node.op_type)
    if function is None:
        return None, ()
    try:
        return function(around, step)
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError):
        # Attributes and values that mean nothing here, as in a damaged file.
        return None, ()


def _if(around: "ShapePass", step: ShapeStep) -> tuple[Shapes, tuple[Body, ...]]:
    condition = step.value(0)
    names = ["then_branch", "else_branch"]
    if condition is not None and condition.size == 1:
        names = names[:1] if condition.item() else names[1:]
    graphs = [graph for name in names if isinstance(graph := step.attribute(name), Graph)]
    passes = [around.inside(graph, ()) for graph in graphs]
    branches = [
        inside.shapes_of(graph.outputs) for inside, graph in zip(passes, graphs, strict=True)
    ]
    bodies = tuple(
        Body(graph, inside.tensors, inside.bodies, 1)
        for inside, graph in zip(passes, graphs, strict=True)
    )
    return [_shared(step, column) for column in zip_longest(*branches)], bodies


def _loop(around: "ShapePass", step: ShapeStep) -> tuple[Shapes, tuple[Body, ...]]:
    graph = step.attribute("body")
    if not isinstance(graph, Graph):
        return None, ()
    starts = _starts(step)
    states = list(step.shapes[2:])
    names = [tensor.name for tensor in graph.inputs[1:2]] if starts else []
    inside = around.inside(graph, [(), (), *states], dict.fromkeys(names, Values.of([True], ())))
    goes_on = inside.value(graph.outputs[0].name) if graph.outputs else None
    outputs = inside.shapes_of(graph.outputs)
    trips = _trips(step, starts=starts, goes_on=goes_on is not None and all(goes_on.ravel()))
    kept = [
        _shared(step, (before, after))
        for before, after in zip(states, outputs[1 : 1 + len(states)], strict=False)
    ]
    # A state that changes its shape, as a list that grows, makes each trip cost something else.
    runs = evaluate(trips, {}) if trips is not None and kept == states else None
    length = symbol(f"{_identifier(step)}_trips") if trips is None else trips
    stacked = [None if shape is None else (length, *shape) for shape in outputs[1 + len(states) :]]
    return [*kept, *stacked], (Body(graph, inside.tensors, inside.bodies, runs),)


def _starts(step: ShapeStep) -> bool | None:
    """Whether a Loop's condition is true before its first trip; None where it is not known."""
    condition = step.value(1)
    if condition is None:
        return None if step.has(1) else True
    return all(condition.ravel())


def _trips(step: ShapeStep, *, starts: bool | None, goes_on: bool) -> Count | None:
    """How often a Loop runs; None where that is computed.

    Args:
        step: the Loop.
        starts: its condition; None where it is not known.
        goes_on: whether the body's condition is always true where it was so before.
    """
    if starts is False:
        return 0
    limit = step.value(0)
    if limit is None or not starts or not goes_on:
        return None
    return greatest(limit.item(), 0)


def _scan(around: "ShapePass", step: ShapeStep) -> tuple[Shapes, tuple[Body, ...]]:
    graph = step.attribute("body")
    count = step.attribute("num_scan_inputs", 0)
    states = len(step.shapes) - count
    if not isinstance(graph, Graph) or not 0 <= states < len(step.shapes):
        return None, ()
    if len(step.shapes) == len(graph.inputs) + 1:
        return _scan_of_batch(around, step)
    axes = step.attribute("scan_input_axes") or (0,) * count
    sequences = [
        None if shape is None or not -len(shape) <= axis < len(shape) else (shape, axis)
        for shape, axis in zip(step.shapes[states:], axes, strict=False)
    ]
    length = next((shape[axis] for shape, axis in filter(None, sequences)), None)
    slices = [
        None
        if sequence is None
        else tuple(d for a, d in enumerate(sequence[0]) if a != sequence[1] % len(sequence[0]))
        for sequence in sequences
    ]
    inside = around.inside(graph, [*step.shapes[:states], *slices])
    runs = None if length is None else evaluate(length, {})
    outputs = inside.shapes_of(graph.outputs)
    places = step.attribute("scan_output_axes") or (0,) * len(outputs[states:])
    stacked = [
        _stacked(shape, length, axis) for shape, axis in zip(outputs[states:], places, strict=False)
    ]
    bodies = (Body(graph, inside.tensors, inside.bodies, runs),)
    return [*outputs[:states], *stacked], bodies


def _scan_of_batch(around: "ShapePass", step: ShapeStep) -> tuple[Shapes, tuple[Body, ...]]:
    """The Scan of operator set 8: the lengths come first, and each tensor has a batch in front."""
    batched = step.shapes[1:]
    batch = next((shape[0] for shape in batched if shape), None)
    each = replace(step, shapes=tuple([shape and shape[1:] for shape in batched]))
    outputs, bodies = _scan(around, each)
    if batch is None or outputs is None:
        return None, bodies
    examples = evaluate(batch, {})
    return [None if shape is None else (batch, *shape) for shape in outputs], tuple(
        replace(body, runs=None if body.runs is None else body.runs * examples) for body in bodies
    )


def _stacked(shape: Counts | None, length: Count | None, axis: int) -> Counts | None:
    """The shape of slices that lie side by side along a new axis."""
    if shape is None or length is None or not -len(shape) <= axis + 1 <= len(shape) + 1:
        return None
    axis %= len(shape) + 1
    return (*shape[:axis], length, *shape[axis:])


def _shared(step: ShapeStep, shapes: Sequence[Counts | None]) -> Counts | None:
    """What several runs' shapes have in common; a dimension that differs gets a name."""
    known = [shape for shape in shapes if shape is not None]
    if len(known) != len(shapes) or len({len(shape) for shape in known}) != 1:
        return None
    return tuple(
        dims[0] if len(set(dims)) == 1 else symbol(f"{_identifier(step)}_dim{axis}")
        for axis, dims in enumerate(zip(*known, strict=True))
    )


def _identifier(step: ShapeStep) -> str:
    return re.sub(r"\W", "_", step.node.name)


_FUNCTIONS: Mapping[str, Callable[["ShapePass", ShapeStep], tuple[Shapes, tuple[Body, ...]]]] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
}
