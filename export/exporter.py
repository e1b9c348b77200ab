"""The way of a network into a file: weights, conversion, comparison, model card, disk."""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import onnx
from torch import nn

from convlens.analysis.card import ModelCard
from convlens.export.architectures import find_architecture
from convlens.export.batch_norm import folded_batch_norm
from convlens.export.files import require_writable, write_atomically
from convlens.export.parity import Parity, check_parity, golden
from convlens.export.to_onnx import to_onnx
from convlens.export.training import Progress
from convlens.export.weights import DEFAULT, with_weights


@dataclass(frozen=True)
class ExportResult:
    """A file that was written.

    Attributes:
        path: of the file.
        file_bytes: its size.
        parameters: the learnable ones of the network.
        input_shape: (channels, height, width) of one picture.
        parity: how far the file is from PyTorch.
        card: what the file says of itself.
    """

    path: Path
    file_bytes: int
    parameters: int
    input_shape: tuple[int, ...]
    parity: Parity
    card: ModelCard


def export_model(
    name: str,
    path: Path,
    *,
    weights: str = DEFAULT,
    seed: int = 0,
    progress: Progress = lambda _done, _total: None,
) -> ExportResult:
    """Export an architecture by its name into a self-describing ONNX file.

    Args:
        name: one of `ARCHITECTURES`.
        path: of the file; one that exists is replaced once the new one is complete and proven.
        weights: "default", "random", or the path of a state dict that `torch.save` wrote.
        seed: of the initialisation, and of the training where there is one.
        progress: called with (done, total) while a network is trained.

    Raises:
        UnknownArchitectureError: no architecture has that name.
        WeightsError: the weights cannot be had, or do not fit the network.
        ParityError: the file would not compute what PyTorch computes.
        WriteError: the file cannot be written.
    """
    architecture = find_architecture(name)
    require_writable(path)
    weighted = with_weights(architecture, weights, seed, progress)
    card = ModelCard(
        preprocessing=architecture.preprocessing,
        labels=architecture.labels,
        weights=weighted.provenance,
        model={"name": name, "family": architecture.family},
    )
    return export_network(weighted.network, architecture.input_shape, path, card)


def export_network(
    network: nn.Module, input_shape: tuple[int, int, int], path: Path, card: ModelCard
) -> ExportResult:
    """Export any network into a self-describing ONNX file, proven equal to PyTorch.

    Args:
        network: takes (batch, *input_shape), gives (batch, classes) logits.
        input_shape: (channels, height, width) of one picture.
        path: of the file.
        card: what is known of the network; what the export itself finds out is added.

    Raises:
        ConversionError: the network cannot be turned into an ONNX graph.
        ParityError: the file would not compute what PyTorch computes.
        WriteError: the file cannot be written.
    """
    network.eval()
    model = to_onnx(network, input_shape)
    parity = check_parity(network, model.SerializeToString(), input_shape)
    complete = replace(
        card,
        model={
            **card.model,
            "input_size": input_shape[1:],
            "precision": "fp32",
            "softmax": False,
            "folded_batch_norm": asdict(folded_batch_norm(network, model)),
        },
        parity=asdict(parity),
        golden=golden(network, input_shape),
        export=_circumstances(model),
    )
    metadata = complete.to_metadata()
    onnx.helper.set_model_props(model, metadata)
    content = model.SerializeToString(deterministic=True)
    write_atomically(path, content)
    return ExportResult(
        path=path,
        file_bytes=len(content),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        input_shape=input_shape,
        parity=parity,
        card=ModelCard.from_metadata(metadata),
    )


def _circumstances(model: onnx.ModelProto) -> dict[str, str | int]:
    packages = ("convlens", "torch", "torchvision", "onnx")
    (opset,) = (entry.version for entry in model.opset_import if entry.domain == "")
    return {
        **{package: version(package) for package in packages},
        "opset": opset,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
