"""The analysis: a file in, a report out, one stage after the other."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from convlens.analysis.bounds import evaluate
from convlens.analysis.card import ModelCard
from convlens.analysis.certainty import certainty, missing_since
from convlens.analysis.cost import cost_formula, count_cost
from convlens.analysis.errors import CardError
from convlens.analysis.functions import inline_functions
from convlens.analysis.graph import Graph, Node
from convlens.analysis.graph_order import graph_notes
from convlens.analysis.graph_reader import ONNX_DOMAINS, read_graph, text
from convlens.analysis.layer import Formulas, Layer
from convlens.analysis.memory import (
    peak_activation_bytes,
    peak_activation_formula,
    tensor_bytes,
)
from convlens.analysis.model_file import ModelFile, read_model
from convlens.analysis.parameters import Parameters, count_parameters
from convlens.analysis.receptive_field import ReceptiveField, receptive_fields, trace_fields
from convlens.analysis.report import Model, Report, Totals
from convlens.analysis.shape import Tensor, Tensors
from convlens.analysis.shapes import BATCH_SYMBOL, SYMBOLS, InferredShapes, infer_shapes
from convlens.analysis.size_restrictions import size_restrictions, split_pictures
from convlens.analysis.symbolic import Count
from convlens.analysis.unused import unused_initializers

# The side of the picture that most classifiers are made for.
_USUAL_SIZE = 224


def analyze(
    path: str | Path,
    batch: int | None = None,
    input_size: Sequence[int] | None = None,
    *,
    symbolic: bool = False,
) -> Report:
    """Analyse an ONNX file, without its weights and without running it.

    Args:
        path: of the file.
        batch: the batch size; None keeps the file's, which may be symbolic.
        input_size: (height, width) of the picture; None keeps the file's.
        symbolic: state shapes, MACs and memory as formulas in N, H and W, as far as no number is
            given for them.

    Raises:
        ModelFileError: the file is missing, empty, truncated or not ONNX, or its graph runs in a
            circle.
        InputSizeError: the network cannot take a picture of that size.
    """
    with _collector_paused():
        return _analyze(read_model(path), batch, input_size, symbolic=symbolic)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """An analysis makes little garbage: looking for it takes a sixth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _analyze(
    file: ModelFile, batch: int | None, input_size: Sequence[int] | None, *, symbolic: bool
) -> Report:
    proto = inline_functions(file.proto)
    graph = read_graph(proto.graph)
    shapes = infer_shapes(proto, graph, batch, input_size, symbolic=symbolic)
    model, card_notes = _model(file)
    fields = trace_fields(graph, shapes.tensors, model.opset, shapes.folded)
    seen = receptive_fields(fields, graph)
    incomplete_since = missing_since(graph, seen)
    parameters = count_parameters(graph, _folded_parameters(model.card))
    layers = tuple(
        _layer(
            node,
            shapes,
            seen.get(node.output),
            node_parameters,
            sees_since=incomplete_since.get(node.output),
            on_pixels=not fields.keys().isdisjoint(node.inputs),
            symbolic=symbolic,
        )
        for node, node_parameters in zip(graph.nodes, parameters, strict=True)
    )
    totals = _totals(layers, peak_activation_bytes(graph, shapes.tensors, shapes.bodies))
    restrictions: tuple[str, ...] = ()
    if input_size is not None:
        restrictions = split_pictures(graph, shapes.tensors)
    if symbolic:
        totals = replace(totals, formulas=_total_formulas(graph, shapes))
        restrictions += size_restrictions(graph, shapes.tensors)
    return Report(
        model=model,
        inputs=tuple(shapes.tensors.get(tensor.name, tensor) for tensor in graph.inputs),
        outputs=tuple(shapes.tensors.get(tensor.name, tensor) for tensor in graph.outputs),
        layers=layers,
        totals=totals,
        notes=(
            *card_notes,
            *graph_notes(graph),
            *shapes.notes,
            *shapes.disputes.values(),
            *restrictions,
        ),
        declared_inputs=graph.inputs,
        single_pictures=shapes.single_pictures,
        unused_initializers=unused_initializers(graph),
        picture=shapes.picture,
    )


def _model(file: ModelFile) -> tuple[Model, tuple[str, ...]]:
    """What is said of the file itself; a card that cannot be read costs a note."""
    proto = file.proto
    notes: tuple[str, ...] = ()
    card = ModelCard()
    try:
        card = ModelCard.from_metadata(
            {text(entry.key): text(entry.value) for entry in proto.metadata_props}
        )
    except CardError as error:
        notes = (f"the model card is not used: {error}",)
    opsets = [entry.version for entry in proto.opset_import if entry.domain in ONNX_DOMAINS]
    model = Model(
        path=str(file.path),
        file_bytes=file.file_bytes,
        ir_version=proto.ir_version,
        opset=max(opsets, default=0),
        producer=f"{text(proto.producer_name)} {text(proto.producer_version)}".strip(),
        card=card,
    )
    return model, notes


def _folded_parameters(card: ModelCard) -> int | None:
    """How many learnable parameters the file lacks for its foldings, where the card states it."""
    folded = card.model.get("folded_batch_norm")
    learnable = folded.get("learnable") if isinstance(folded, dict) else None
    return learnable if isinstance(learnable, int) else None


def _layer(
    node: Node,
    shapes: InferredShapes,
    sees: ReceptiveField | None,
    parameters: Parameters,
    *,
    sees_since: str | None,
    on_pixels: bool,
    symbolic: bool,
) -> Layer:
    tensors = shapes.tensors
    cost = count_cost(node, tensors, shapes.bodies.get(node.index, ()))
    outputs = _tensors(node.outputs, tensors)
    sizes = [tensor.bytes for tensor in outputs if tensor.name]
    return Layer(
        index=node.index,
        name=node.name,
        op_type=node.op_type,
        scope=node.scope,
        inputs=_tensors(node.inputs, tensors),
        outputs=outputs,
        attributes=node.attributes,
        parameters=parameters,
        macs=_number(cost.macs),
        flops=_number(cost.flops),
        activation_bytes=None if None in sizes else sum(filter(None, sizes)),
        receptive_field=sees or ReceptiveField(),
        certainty=certainty(node, shapes, cost, sees_since=sees_since, on_pixels=on_pixels),
        formulas=_layer_formulas(node, shapes) if symbolic else None,
    )


def _number(count: Count | None) -> int | None:
    return None if count is None else evaluate(count, {})


def _layer_formulas(node: Node, shapes: InferredShapes) -> Formulas:
    cost = cost_formula(node, shapes.tensors, shapes.bodies.get(node.index, ()))
    return Formulas(_text(cost.macs), _text(cost.flops), _text(_output_bytes(node, shapes)))


def _total_formulas(graph: Graph, shapes: InferredShapes) -> Formulas:
    costs = [
        cost_formula(node, shapes.tensors, shapes.bodies.get(node.index, ()))
        for node in graph.nodes
    ]
    sizes = dict.fromkeys(SYMBOLS, _USUAL_SIZE) | {BATCH_SYMBOL: 1}
    for tensor in graph.inputs:
        # What the file was made for tells best where its peak lies.
        pinned = shapes.tensors[tensor.name].shape or ()
        sizes |= {
            str(name): size
            for name, size in zip(pinned, tensor.shape or (), strict=False)
            if isinstance(size, int) and name != BATCH_SYMBOL
        }
    return Formulas(
        _text(sum((cost.macs for cost in costs if cost.macs is not None), start=0)),
        _text(sum((cost.flops for cost in costs if cost.flops is not None), start=0)),
        _text(peak_activation_formula(graph, shapes.tensors, sizes)),
    )


def _output_bytes(node: Node, shapes: InferredShapes) -> Count | None:
    sizes = [
        tensor_bytes(shapes.tensors.get(name, Tensor(name, "", None)))
        for name in node.outputs
        if name
    ]
    known = [size for size in sizes if size is not None]
    return sum(known, start=0) if len(known) == len(sizes) else None


def _text(count: Count | None) -> str | None:
    return None if count is None else str(count)


def _tensors(names: Sequence[str], tensors: Tensors) -> tuple[Tensor, ...]:
    return tuple([tensors[name] if name in tensors else Tensor(name, "", None) for name in names])


def _totals(layers: Sequence[Layer], peak_bytes: int) -> Totals:
    return Totals(
        parameters=sum(layer.parameters.stored for layer in layers),
        learnable=sum(layer.parameters.learnable for layer in layers),
        statistics=sum(layer.parameters.statistics for layer in layers),
        macs=sum(layer.macs or 0 for layer in layers),
        flops=sum(layer.flops or 0 for layer in layers),
        weight_bytes=sum(layer.weight_bytes for layer in layers),
        activation_bytes=sum(layer.activation_bytes or 0 for layer in layers),
        peak_activation_bytes=peak_bytes,
    )
