import copy
import math

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from convlens.analysis.card import golden_input, relative_deviation
from convlens.export import ParityError
from convlens.export.errors import ConversionError
from convlens.export.parity import check_parity, torch_outputs
from tests.export.support import Exported

SHAPES = {"lenet5": (1, 32, 32), "resnet18": (3, 224, 224), "efficientnet_lite0": (3, 224, 224)}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
@pytest.mark.parametrize("name", SHAPES)
def test_exports_agree_with_pytorch_at_any_batch_size(
    name: str, batch_size: int, request: pytest.FixtureRequest
) -> None:
    exported: Exported = request.getfixturevalue(name)
    inputs = golden_input(100 + batch_size, (batch_size, *SHAPES[name]))
    expected = torch_outputs(exported.network, inputs)
    assert relative_deviation(exported.run(inputs), expected) <= 1e-4


def test_the_figures_are_those_of_the_comparison(lenet5: Exported) -> None:
    parity = check_parity(lenet5.network, lenet5.result.path.read_bytes(), SHAPES["lenet5"])
    assert parity == lenet5.result.parity
    assert 0 < parity.max_relative <= parity.limit == 1e-4
    assert parity.batch_sizes == (1, 2, 3, 8)


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_a_tampered_graph_fails(lenet5: Exported, factor: float) -> None:
    model = onnx.load(lenet5.result.path)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "c3.weight")
    tampered = numpy_helper.to_array(weight) * np.float32(factor)
    weight.CopyFrom(numpy_helper.from_array(tampered, weight.name))
    with pytest.raises(
        ParityError, match="at batch size 1, on photographs, the ONNX graph differs"
    ):
        check_parity(lenet5.network, model.SerializeToString(), SHAPES["lenet5"])


class _Doubled(nn.Module):
    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return pictures, pictures


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (nn.Linear(3, 2), "Linear does not take pictures of 1x4x4: mat1 and mat2"),
        (nn.Identity(), r"Identity gives a tensor of shape \(1, 1, 4, 4\)"),
        (_Doubled(), "_Doubled gives tuple: a classifier gives one tensor"),
    ],
)
def test_a_network_that_is_no_classifier_is_said_in_one_line(network: nn.Module, said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        torch_outputs(network, np.zeros((1, 1, 4, 4), np.float32))


def test_a_network_of_other_weights_fails(lenet5: Exported) -> None:
    torch.manual_seed(1)
    other = type(lenet5.network)()
    with pytest.raises(ParityError):
        check_parity(other, lenet5.result.path.read_bytes(), SHAPES["lenet5"])


def test_a_network_whose_own_outputs_are_no_numbers_is_called_the_cause(lenet5: Exported) -> None:
    network = copy.deepcopy(lenet5.network)
    nn.init.constant_(network.get_parameter("output.bias"), math.nan)
    with pytest.raises(ParityError, match="LeNet5 itself gives outputs on photographs that are"):
        check_parity(network, lenet5.result.path.read_bytes(), (1, 32, 32))
