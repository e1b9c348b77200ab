import stat
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from convlens.analysis.card import ModelCard
from convlens.export import (
    ConversionError,
    DefaultWeights,
    GraphOptions,
    ParityError,
    UnknownArchitectureError,
    WriteError,
    export_model,
    export_network,
    find_architecture,
)
from convlens.export.architecture import Progress
from convlens.export.lenet5 import LeNet5
from tests.export.support import Exported

NAMES = ("lenet5", "resnet18", "efficientnet_lite0")


def _card(path: Path) -> ModelCard:
    model = onnx.load(path)
    return ModelCard.from_metadata({entry.key: entry.value for entry in model.metadata_props})


@pytest.mark.parametrize("name", NAMES)
def test_the_card_in_the_file_is_the_results_and_complete(
    name: str, request: pytest.FixtureRequest
) -> None:
    exported: Exported = request.getfixturevalue(name)
    card = _card(exported.result.path)
    assert card == exported.result.card
    assert card.labels is not None
    assert card.golden is not None
    assert exported.run(card.golden.input()).shape == (2, len(card.labels))
    assert card.model["name"] == name
    assert card.preprocessing is not None
    assert card.model["input_size"] == list(card.preprocessing.size)
    assert (card.precision, card.softmax) == ("fp32", False)
    assert {"convlens", "torch", "torchvision", "onnx", "opset", "time"} <= set(card.export)
    assert datetime.fromisoformat(card.export["time"]).utcoffset() is not None
    assert card.parity["max_relative"] == exported.result.parity.max_relative


@pytest.mark.parametrize("name", NAMES)
def test_the_file_reproduces_its_golden_outputs(name: str, request: pytest.FixtureRequest) -> None:
    exported: Exported = request.getfixturevalue(name)
    golden = exported.result.card.golden
    assert golden is not None
    assert golden.shape[0] == 2
    assert golden.deviation(exported.run(golden.input())) < golden.tolerance / 10


def test_random_weights_are_called_random(resnet18: Exported) -> None:
    assert resnet18.result.card.weights == {"origin": "random", "seed": 0}


def test_a_repeated_export_differs_in_its_time_alone(tmp_path: Path) -> None:
    contents = []
    for run in ("first", "second"):
        path = tmp_path / f"{run}.onnx"
        export_model("lenet5", path, weights="random", seed=5)
        model = onnx.load(path)
        (export,) = (e for e in model.metadata_props if e.key == "convlens.export")
        export.value = ""
        contents.append(model.SerializeToString(deterministic=True))
    assert contents[0] == contents[1]


class _Unfaithful(nn.Module):
    """Computes one thing and exports another."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.layer(pictures.flatten(1))
        return logits * 1.01 if torch.compiler.is_exporting() else logits


def test_a_graph_that_differs_from_the_network_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ParityError):
        export_network(_Unfaithful(), (1, 4, 4), tmp_path / "unfaithful.onnx", ModelCard())
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_the_old_file_and_no_half_one(tmp_path: Path) -> None:
    path = tmp_path / "lenet5.onnx"
    path.write_bytes(b"the old one")

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_model("lenet5", path, progress=interrupt)
    assert [entry.name for entry in tmp_path.iterdir()] == ["lenet5.onnx"]
    assert path.read_bytes() == b"the old one"


def test_others_may_read_the_file_as_the_umask_says(lenet5: Exported) -> None:
    beside = lenet5.result.path.with_name("beside")
    beside.touch()
    assert stat.S_IMODE(lenet5.result.path.stat().st_mode) == stat.S_IMODE(beside.stat().st_mode)


def test_a_path_that_cannot_be_written_fails_before_the_work(tmp_path: Path) -> None:
    def never(_done: int, _total: int) -> None:
        pytest.fail("it trained first")

    with pytest.raises(WriteError, match="there is no folder"):
        export_model("lenet5", tmp_path / "missing" / "lenet5.onnx", progress=never)
    with pytest.raises(WriteError, match="it is a folder"):
        export_model("lenet5", tmp_path, progress=never)


@pytest.mark.parametrize(("name", "near"), [("resnet81", "resnet18"), ("LeNet-5", "lenet5")])
def test_near_matches_of_an_unknown_name_are_offered(name: str, near: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownArchitectureError, match=f"did you mean {near}"):
        export_model(name, tmp_path / "unknown.onnx")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (GraphOptions(dynamic_size=True), "LeNet5 does not allow a dynamic size"),
        (GraphOptions(opset=99), "opset 99 is not one of"),
    ],
)
def test_what_the_graph_cannot_be_is_said_before_weights_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: GraphOptions, reason: str
) -> None:
    def train(_network: nn.Module, _seed: int, _progress: Progress) -> Mapping[str, Any]:
        raise AssertionError("trained")

    lenet5 = replace(find_architecture("lenet5"), default_weights=DefaultWeights("trained", train))
    monkeypatch.setattr("convlens.export.exporter.find_architecture", lambda _name: lenet5)
    with pytest.raises(ConversionError, match=reason):
        export_model("lenet5", tmp_path / "lenet5.onnx", options=options)


def test_a_card_with_too_few_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="there are 2 labels for 10 classes"):
        export_network(LeNet5(), (1, 32, 32), tmp_path / "a.onnx", ModelCard(labels=("0", "1")))
