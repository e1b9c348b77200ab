"""Every architecture as a file: one a family in the suite, the rest by `make test-zoo`."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from convlens.export import ARCHITECTURES, GraphOptions
from convlens.export.photographs import photograph_input
from convlens.export.zoo import Measured, ZooRequest, export_all
from tests.export.support import runner

# ResNet-18 and EfficientNet-Lite0 have files of their own in the other tests.
STAND_INS = ("lenet5_1998", "alexnet", "convnext_tiny", "efficientnet_b0")
_PICTURES = 8


def _names() -> list[object]:
    return [
        name if name in STAND_INS else pytest.param(name, marks=pytest.mark.zoo)
        for name in ARCHITECTURES
    ]


def _export(name: str, folder: Path) -> Measured:
    (outcome,) = export_all([name], ZooRequest(folder, "random", 0, GraphOptions()))
    assert outcome.failure is None
    assert outcome.measured is not None
    return outcome.measured


@pytest.mark.parametrize("name", _names())
def test_an_architecture_becomes_a_proven_clean_and_lively_file(name: str, tmp_path: Path) -> None:
    measured = _export(name, tmp_path)
    result = measured.result
    path = result.path

    assert result.parity.max_relative <= result.parity.limit == 1e-4
    assert result.parity.top1_agreement == 1.0
    assert result.parity.batch_sizes == (1, 2, 3, 8)

    model = onnx.load(path)
    operators = Counter(node.op_type for node in model.graph.node)
    assert {"Shape", "Range", "BatchNormalization", "Identity", "Expand"}.isdisjoint(operators)
    assert result.nodes == len(model.graph.node) < result.nodes_before
    assert result.parameters == ARCHITECTURES[name].count_cost().parameters
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("input", "logits")
    del model

    logits = runner(path)(photograph_input(_PICTURES, result.input_shape, seed=99))
    # A server that swaps two callers' answers must not get away with it.
    assert len(set(logits.argmax(axis=1).tolist())) >= _PICTURES // 2 - (logits.shape[1] == 10)
    assert logits.std(axis=0).mean() > logits.std() / 4
    assert np.unique(logits, axis=0).shape[0] == _PICTURES
    path.unlink()

    assert measured.peak_bytes < 12e9
