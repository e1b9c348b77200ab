from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from convlens.analysis import analyze
from convlens.analysis.card import ModelCard
from convlens.export import (
    ExportResult,
    GraphOptions,
    PrecisionError,
    PrecisionOptions,
    export_network,
    find_architecture,
)
from convlens.export.digits import load_digits, split_digits
from convlens.export.exporter import export_weighted
from convlens.export.photographs import pieces
from convlens.export.precision import Precision
from convlens.export.weights import WeightedNetwork
from convlens.server.model import load_model
from convlens.server.plan import Machine, Plan
from convlens.server.providers import ModelSource
from tests.export.support import Exported, runner

REDUCED: tuple[Precision, ...] = ("int8", "fp16")

Reduced = dict[Precision, ExportResult]


def _reduce(
    exported: Exported, path: Path, options: PrecisionOptions, graph: GraphOptions | None = None
) -> ExportResult:
    card = exported.result.card
    weighted = WeightedNetwork(exported.network, card.weights)
    architecture = find_architecture(card.model["name"])
    return export_weighted(architecture, weighted, path, graph, options)


@pytest.fixture(scope="module")
def lenet5s(lenet5: Exported, tmp_path_factory: pytest.TempPathFactory) -> Reduced:
    folder = tmp_path_factory.mktemp("lenet5s")
    return {
        precision: _reduce(lenet5, folder / f"{precision}.onnx", PrecisionOptions(precision))
        for precision in REDUCED
    }


@pytest.fixture(scope="module")
def lite0s(efficientnet_lite0: Exported, tmp_path_factory: pytest.TempPathFactory) -> Reduced:
    """In int8 some pieces of photographs change their class."""
    folder = tmp_path_factory.mktemp("lite0s")
    options = (PrecisionOptions("int8", min_agreement=0.85), PrecisionOptions("fp16"))
    return {
        option.precision: _reduce(efficientnet_lite0, folder / f"{option.precision}.onnx", option)
        for option in options
    }


@pytest.mark.parametrize("precision", REDUCED)
def test_lenet5_keeps_its_held_out_accuracy_within_half_a_point(
    precision: Precision, lenet5: Exported, lenet5s: Reduced
) -> None:
    result = lenet5s[precision]
    _, held_out = split_digits(load_digits())
    accuracy = {
        path: np.mean(runner(path)(held_out.examples().inputs).argmax(axis=1) == held_out.labels)
        for path in (result.path, lenet5.result.path)
    }
    assert accuracy[result.path] >= accuracy[lenet5.result.path] - 0.005
    assert result.agreement is not None
    assert result.agreement.pictures == len(held_out)
    assert result.file_bytes < 0.6 * lenet5.result.file_bytes


@pytest.mark.parametrize(("precision", "agreement"), [("int8", 0.85), ("fp16", 0.99)])
def test_efficientnet_lite0_keeps_its_classes_on_photographs(
    precision: Precision, agreement: float, efficientnet_lite0: Exported, lite0s: Reduced
) -> None:
    result = lite0s[precision]
    assert result.agreement is not None
    assert result.agreement.top1_agreement >= agreement
    assert result.file_bytes < 0.55 * efficientnet_lite0.result.file_bytes


@pytest.mark.parametrize("precision", REDUCED)
def test_the_server_loads_the_file_and_checks_its_golden_outputs(
    precision: Precision, lenet5s: Reduced
) -> None:
    result = lenet5s[precision]
    golden = result.card.golden
    assert golden is not None
    assert golden.deviation(runner(result.path)(golden.input())) < 1e-6
    assert golden.tolerance == {"int8": 2e-2, "fp16": 1e-2}[precision]
    model = load_model("lenet5", "1", ModelSource.read(result.path), Plan(), Machine())
    assert model.card.precision == precision
    assert model.card.parity["against_fp32"]["top1_agreement"] >= 0.99


@pytest.mark.parametrize("precision", REDUCED)
def test_the_file_is_analysed_with_its_twins_parameters_and_macs(
    precision: Precision, lenet5: Exported, lenet5s: Reduced
) -> None:
    result = lenet5s[precision]
    totals, twin = (analyze(path).totals for path in (result.path, lenet5.result.path))
    assert (totals.parameters, totals.learnable, totals.macs) == (
        twin.parameters,
        twin.learnable,
        twin.macs,
    )


@pytest.mark.parametrize("precision", REDUCED)
def test_inputs_and_outputs_stay_fp32_and_the_batch_open(
    precision: Precision, lenet5s: Reduced
) -> None:
    graph = onnx.load(lenet5s[precision].path).graph
    for value, name in ((graph.input[0], "input"), (graph.output[0], "logits")):
        assert value.name == name
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_weights_are_signed_symmetric_and_scaled_by_channel(lenet5s: Reduced) -> None:
    result = lenet5s["int8"]
    graph = onnx.load(result.path).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [
        node
        for node in graph.node
        if node.op_type == "DequantizeLinear" and tensors.get(node.input[0], np.zeros(0)).ndim > 1
    ]
    assert len(weights) == 5
    for node in weights:
        quantised, scale, zero_point = (tensors[name] for name in node.input)
        assert quantised.dtype == np.int8
        assert scale.shape == (len(quantised),)
        assert not zero_point.any()


def test_sensitive_operators_stay_fp32_and_are_listed(lite0s: Reduced) -> None:
    result = lite0s["fp16"]
    assert result.agreement is not None
    graph = onnx.load(result.path).graph
    kept = {
        node.name: node.op_type for node in graph.node if node.name in result.agreement.kept_fp32
    }
    assert set(kept.values()) == {"ReduceMean"}
    assert list(result.card.parity["against_fp32"]["kept_fp32"]) == list(kept)


def _write_pictures(folder: Path, count: int) -> None:
    folder.mkdir()
    for index, piece in enumerate(pieces(count, "RGB", (40, 60), seed=0)):
        piece.save(folder / f"{index:02}.png")


def test_too_little_agreement_is_refused_and_nothing_written(tmp_path: Path) -> None:
    """Among a thousand classes that nothing tells apart, the least error picks another one."""
    torch.manual_seed(0)
    layers = (nn.Linear(192, 64), nn.Linear(64, 64), nn.Linear(64, 1000))
    network = nn.Sequential(nn.Flatten(), *layers)
    options = PrecisionOptions("int8", min_agreement=1.0)
    with pytest.raises(PrecisionError, match=r"the same class first as fp32 on \d+\.\d% of 128 p"):
        export_network(network, (3, 8, 8), tmp_path / "a.onnx", ModelCard(), precision=options)
    assert list(tmp_path.iterdir()) == []


def test_a_third_of_the_users_folder_is_held_out(lenet5: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    _write_pictures(folder, 12)
    (folder / "._00.jpg").write_bytes(b"what macOS keeps beside a picture")
    (folder / "album.jpg").mkdir()
    options = PrecisionOptions("int8", calibration=folder, min_agreement=0.0)
    agreement = _reduce(lenet5, tmp_path / "lenet5.onnx", options).agreement
    assert agreement is not None
    assert (agreement.calibration_pictures, agreement.pictures) == (8, 4)
    assert agreement.source == "the folder pictures"


def test_a_folder_of_too_few_or_broken_pictures_is_refused(
    lenet5: Exported, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    _write_pictures(folder, 5)
    options = PrecisionOptions("int8", calibration=folder)
    with pytest.raises(PrecisionError, match="holds 5 pictures"):
        _reduce(lenet5, tmp_path / "lenet5.onnx", options)
    Image.new("RGB", (8, 8)).save(folder / "whole.png")
    (folder / "05.jpg").write_bytes(b"not a picture")
    with pytest.raises(PrecisionError, match=r"cannot read the picture .*05\.jpg"):
        _reduce(lenet5, tmp_path / "lenet5.onnx", options)


@pytest.mark.parametrize("precision", REDUCED)
def test_preprocessing_can_be_embedded_too(
    precision: Precision, lenet5: Exported, tmp_path: Path
) -> None:
    path = tmp_path / "lenet5.onnx"
    result = _reduce(
        lenet5, path, PrecisionOptions(precision), GraphOptions(embed_preprocessing=True)
    )
    _, held_out = split_digits(load_digits())
    actual = runner(path)(held_out.pictures[..., np.newaxis]).argmax(axis=1)  # type: ignore[arg-type]
    assert np.mean(actual == held_out.labels) > 0.98
    assert result.card.precision == precision


def test_a_graph_without_weights_has_nothing_to_quantise(tmp_path: Path) -> None:
    with pytest.raises(PrecisionError, match="no layer with weights"):
        export_network(
            nn.Flatten(),
            (3, 8, 8),
            tmp_path / "flat.onnx",
            ModelCard(),
            precision=PrecisionOptions("int8"),
        )
    assert list(tmp_path.iterdir()) == []
