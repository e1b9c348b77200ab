"""The analysis: a file in, a report out, one stage after the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from convlens.analysis.card import ModelCard
from convlens.analysis.cost import count_cost
from convlens.analysis.errors import CardError
from convlens.analysis.field import Field
from convlens.analysis.graph import Graph, Node
from convlens.analysis.graph_reader import ONNX_DOMAINS, read_graph, text
from convlens.analysis.memory import peak_activation_bytes
from convlens.analysis.model_file import ModelFile, read_model
from convlens.analysis.parameters import Parameters, count_parameters
from convlens.analysis.receptive_field import receptive_field, trace_fields
from convlens.analysis.report import Layer, Model, Report, Status, Totals
from convlens.analysis.shape import Tensor, Tensors
from convlens.analysis.shapes import InferredShapes, infer_shapes
from convlens.analysis.transfers import TRANSFERS
from convlens.analysis.unused import unused_initializers


def analyze(
    path: str | Path, batch: int | None = None, input_size: Sequence[int] | None = None
) -> Report:
    """Analyse an ONNX file, without its weights and without running it.

    Args:
        path: of the file.
        batch: the batch size; None keeps the file's, which may be symbolic.
        input_size: (height, width) of the picture; None keeps the file's.

    Raises:
        ModelFileError: the file is missing, empty, truncated or not ONNX.
        InputSizeError: the network cannot take a picture of that size.
    """
    file = read_model(path)
    graph = read_graph(file.proto.graph)
    shapes = infer_shapes(file.proto, graph, batch, input_size)
    model, card_notes = _model(file)
    fields = trace_fields(graph, shapes.tensors, model.opset)
    parameters = count_parameters(graph, _folded_parameters(model.card))
    layers = tuple(
        _layer(node, graph, shapes, fields, node_parameters)
        for node, node_parameters in zip(graph.nodes, parameters, strict=True)
    )
    return Report(
        model=model,
        inputs=tuple(shapes.tensors.get(tensor.name, tensor) for tensor in graph.inputs),
        outputs=tuple(shapes.tensors.get(tensor.name, tensor) for tensor in graph.outputs),
        layers=layers,
        totals=_totals(layers, peak_activation_bytes(graph, shapes.tensors)),
        notes=(*card_notes, *shapes.notes, *shapes.disputes.values()),
        declared_inputs=graph.inputs,
        unused_initializers=unused_initializers(graph),
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
    graph: Graph,
    shapes: InferredShapes,
    fields: Mapping[str, Field],
    parameters: Parameters,
) -> Layer:
    tensors = shapes.tensors
    cost = count_cost(node, tensors)
    outputs = _tensors(node.outputs, tensors)
    sizes = [tensor.bytes for tensor in outputs if tensor.name]
    sees = receptive_field(fields.get(node.output), graph)
    known = None not in (*sizes, cost.macs, cost.flops) and sees.complete
    status: Status = "exact" if known and node.index not in shapes.disputes else "partial"
    if node.op_type not in TRANSFERS:
        status = "unknown"
    return Layer(
        index=node.index,
        name=node.name,
        op_type=node.op_type,
        scope=node.scope,
        inputs=_tensors(node.inputs, tensors),
        outputs=outputs,
        attributes=node.attributes,
        parameters=parameters,
        macs=cost.macs,
        flops=cost.flops,
        activation_bytes=None if None in sizes else sum(size or 0 for size in sizes),
        receptive_field=sees,
        status=status,
    )


def _tensors(names: Sequence[str], tensors: Tensors) -> tuple[Tensor, ...]:
    return tuple(tensors.get(name, Tensor(name, "", None)) for name in names)


def _totals(layers: Sequence[Layer], peak_bytes: int) -> Totals:
    return Totals(
        parameters=sum(layer.parameters.stored for layer in layers),
        learnable=sum(layer.parameters.learnable for layer in layers),
        statistics=sum(layer.parameters.statistics for layer in layers),
        macs=sum(layer.macs or 0 for layer in layers),
        flops=sum(layer.flops or 0 for layer in layers),
        weight_bytes=sum(layer.weight_bytes for layer in layers),
        peak_activation_bytes=peak_bytes,
    )
