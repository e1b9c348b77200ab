"""The way of a network into a file: weights, conversion, comparison, model card, disk."""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import onnx
from torch import nn

from convlens.analysis.card import ModelCard
from convlens.export.architecture import Architecture, Progress
from convlens.export.architectures import find_architecture
from convlens.export.embedding import embed_preprocessing
from convlens.export.errors import ConversionError
from convlens.export.files import require_writable, write_atomically
from convlens.export.parity import Parity, check_parity, golden
from convlens.export.precision import Agreement, PrecisionOptions, Reduced, reduce_precision
from convlens.export.to_onnx import (
    DEFAULT_OPSET,
    Conversion,
    other_size,
    require_any_size,
    require_opset,
    to_onnx,
)
from convlens.export.weights import DEFAULT, WeightedNetwork, build, with_weights


@dataclass(frozen=True)
class GraphOptions:
    """What the graph is to be like.

    Attributes:
        opset: of ONNX.
        dynamic_size: whether height and width stay open.
        embed_preprocessing: whether the graph takes the pixels themselves, uint8 in NHWC, and
            scales, normalises and lays them out.
    """

    opset: int = DEFAULT_OPSET
    dynamic_size: bool = False
    embed_preprocessing: bool = False

    def as_json(self) -> dict[str, int | bool]:
        """As the model card's part on the export states it."""
        return asdict(self)


@dataclass(frozen=True)
class ExportResult:
    """A file that was written.

    Attributes:
        path: of the file.
        file_bytes: its size.
        parameters: the learnable ones of the network.
        input_shape: (channels, height, width) of one picture.
        nodes_before: of the graph as PyTorch's exporter writes it.
        nodes: of the graph in the file.
        parity: how far the fp32 graph is from PyTorch.
        agreement: how far the file is from the fp32 graph; None where it is that graph.
        card: what the file says of itself.
    """

    path: Path
    file_bytes: int
    parameters: int
    input_shape: tuple[int, ...]
    nodes_before: int
    nodes: int
    parity: Parity
    agreement: Agreement | None
    card: ModelCard


def export_model(
    name: str,
    path: Path,
    *,
    weights: str = DEFAULT,
    seed: int = 0,
    image_size: int | None = None,
    options: GraphOptions | None = None,
    precision: PrecisionOptions | None = None,
    progress: Progress = lambda _done, _total: None,
) -> ExportResult:
    """Export an architecture by its name into a self-describing ONNX file.

    Args:
        name: one of `ARCHITECTURES`, or `package.module:function` of the user's own.
        path: of the file; one that exists is replaced once the new one is complete and proven.
        weights: "default", "random", the name of weights that are published for the architecture,
            or the path of a state dict that `torch.save` or safetensors wrote.
        seed: of the initialisation, and of the training where there is one.
        image_size: height and width of the input in pixels; the architecture's own if None.
        options: what the graph is to be like.
        precision: in how many bits; fp32 if None.
        progress: called with (done, total) while a network is trained.

    Raises:
        UnknownArchitectureError: no architecture has that name.
        ImageSizeError: the architecture cannot take pictures of that size.
        WeightsError: the weights cannot be had, or do not fit the network.
        ConversionError: the network cannot be turned into such a graph.
        ParityError: the file would not compute what PyTorch computes.
        PrecisionError: in fewer bits too few pictures would keep their class.
        WriteError: the file cannot be written.
    """
    architecture = find_architecture(name)
    if weights in architecture.published_weights:
        architecture, weights = architecture.with_published_weights(weights), DEFAULT
    if image_size is not None:
        architecture = architecture.at_image_size(image_size)
    require_writable(path)
    options = options or GraphOptions()
    require_opset(options.opset)
    if options.dynamic_size:
        require_any_size(build(architecture, seed), architecture.input_shape)
    weighted = with_weights(architecture, weights, seed, progress)
    return export_weighted(architecture, weighted, path, options, precision)


def export_weighted(
    architecture: Architecture,
    weighted: WeightedNetwork,
    path: Path,
    options: GraphOptions | None = None,
    precision: PrecisionOptions | None = None,
) -> ExportResult:
    """Export an architecture's network, which has its weights already; see `export_model`."""
    card = ModelCard(
        preprocessing=architecture.preprocessing,
        labels=architecture.labels or None,
        weights=weighted.provenance,
        model={"name": architecture.name, "family": architecture.family},
    )
    return export_network(
        weighted.network, architecture.input_shape, path, card, options, precision
    )


def export_network(
    network: nn.Module,
    input_shape: tuple[int, int, int],
    path: Path,
    card: ModelCard,
    options: GraphOptions | None = None,
    precision: PrecisionOptions | None = None,
) -> ExportResult:
    """Export any network into a self-describing ONNX file, proven equal to PyTorch.

    Args:
        network: takes (batch, *input_shape), gives (batch, classes) logits.
        input_shape: (channels, height, width) of one picture.
        path: of the file.
        card: what is known of the network; what the export itself finds out is added.
        options: what the graph is to be like.
        precision: in how many bits; fp32 if None.

    Raises:
        ConversionError: the network cannot be turned into such a graph, or the card does not have
            a label for each of its classes.
        ParityError: the file would not compute what PyTorch computes.
        PrecisionError: in fewer bits too few pictures would keep their class.
        WriteError: the file cannot be written.
    """
    options = options or GraphOptions()
    precision = precision or PrecisionOptions()
    expected = golden(network.eval(), input_shape)
    _require_labels(card, classes=len(expected.outputs[0]))
    conversion = to_onnx(
        network, input_shape, opset=options.opset, dynamic_size=options.dynamic_size
    )
    parity = _prove(network, conversion, input_shape, options)
    model = conversion.model
    complete = replace(
        card,
        model={
            **card.model,
            "input_size": input_shape[1:],
            "precision": precision.precision,
            "softmax": False,
            "folded_batch_norm": asdict(conversion.folded_batch_norm),
        },
        parity=asdict(parity),
        golden=expected,
        export=_circumstances(options),
    )
    reduced: Reduced | None = None
    if precision.precision != "fp32":
        reduced = reduce_precision(model, input_shape, card.preprocessing, precision)
        model = reduced.model
        complete = replace(
            complete,
            parity={**complete.parity, "against_fp32": asdict(reduced.agreement)},
            golden=reduced.golden,
        )
    if options.embed_preprocessing:
        complete = embed_preprocessing(model, complete)
    metadata = complete.to_metadata()
    onnx.helper.set_model_props(model, metadata)
    content = model.SerializeToString(deterministic=True)
    write_atomically(path, content)
    return ExportResult(
        path=path,
        file_bytes=len(content),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        input_shape=input_shape,
        nodes_before=conversion.nodes_before,
        nodes=len(model.graph.node),
        parity=parity,
        agreement=reduced.agreement if reduced else None,
        card=ModelCard.from_metadata(metadata),
    )


def _require_labels(card: ModelCard, classes: int) -> None:
    if card.labels and len(card.labels) != classes:
        raise ConversionError(
            f"there are {len(card.labels)} labels for {classes} classes: each takes one"
        )


def _prove(
    network: nn.Module,
    conversion: Conversion,
    input_shape: tuple[int, int, int],
    options: GraphOptions,
) -> Parity:
    shapes = (input_shape, other_size(input_shape)) if options.dynamic_size else (input_shape,)
    return check_parity(network, conversion.model.SerializeToString(), *shapes)


def _circumstances(options: GraphOptions) -> dict[str, str | int | bool]:
    packages = ("convlens", "torch", "torchvision", "onnx")
    return {
        **{package: version(package) for package in packages},
        **options.as_json(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
