import math
from collections import Counter

import pytest
import torchvision
from torch import Tensor, nn

from convlens.export import ConversionError, to_onnx
from convlens.export.parity import check_parity


class _Untouched(nn.Module):
    """As built: scales of ones and biases of zeros, which invite to be stored once or dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.Sequential(nn.LayerNorm(8), nn.GELU(), nn.LayerNorm(8))
        self.head = nn.Linear(8, 8)
        nn.init.zeros_(self.head.bias)

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norms(pictures.mean(dim=(1, 2))))
        return logits


def test_equal_weights_stay_apart() -> None:
    network = _Untouched()
    stored = sum(
        math.prod(tensor.dims)
        for tensor in to_onnx(network, (3, 8, 8)).model.graph.initializer
        if tensor.name.endswith((".weight", ".bias"))
    )
    assert stored == sum(parameter.numel() for parameter in network.parameters()) == 104


def test_global_pooling_after_channels_last_is_one_mean() -> None:
    """PyTorch decomposes it into a strided view, which the exporter spells out by Gather."""
    network = nn.Sequential(
        torchvision.models.convnext.LayerNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    operators = Counter(node.op_type for node in to_onnx(network, (3, 8, 8)).model.graph.node)
    assert operators == {"Transpose": 2, "LayerNormalization": 1, "ReduceMean": 1, "Reshape": 1}


def test_pooling_to_the_size_that_a_map_has_leaves_no_node() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(6), nn.Flatten())
    conversion = to_onnx(network, (3, 8, 8))
    assert [node.op_type for node in conversion.model.graph.node] == ["Conv", "Reshape"]
    assert conversion.nodes_before > conversion.nodes == 2


def test_average_pooling_that_does_something_stays() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(3))
    operators = [node.op_type for node in to_onnx(network, (3, 8, 8)).model.graph.node]
    assert operators == ["Conv", "AveragePool"]


def test_a_matrix_product_keeps_the_name_of_its_weight() -> None:
    network = nn.Sequential(nn.Flatten(2), nn.Linear(64, 5))
    names = {tensor.name for tensor in to_onnx(network, (3, 8, 8)).model.graph.initializer}
    assert {"1.weight", "1.bias"} <= names


def test_a_dynamic_size_is_open_and_computes_what_pytorch_computes() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()
    model = to_onnx(network, (3, 32, 32), dynamic_size=True).model
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dimensions] == ["batch", 3, "height", "width"]
    assert {"Shape", "Gather", "Range"}.isdisjoint(node.op_type for node in model.graph.node)
    check_parity(network, model.SerializeToString(), (3, 32, 32), (3, 57, 41))


def test_a_network_of_a_fixed_pooled_size_allows_no_dynamic_size() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(3))
    with pytest.raises(ConversionError, match=r"its layer 1 pools to 3"):
        to_onnx(network, (3, 8, 8), dynamic_size=True)


@pytest.mark.parametrize("opset", [18, 23])
def test_the_opset_can_be_chosen(opset: int) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = to_onnx(network, (3, 8, 8), opset=opset).model
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [opset]
    check_parity(network.eval(), model.SerializeToString(), (3, 8, 8))


def test_an_opset_out_of_range_is_refused() -> None:
    with pytest.raises(ConversionError, match="opset 11 is not one of 18 to 23"):
        to_onnx(nn.Conv2d(3, 4, 3), (3, 8, 8), opset=11)
