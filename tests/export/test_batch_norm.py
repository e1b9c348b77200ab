import math

import onnx
import pytest
from torch import Tensor, nn

from convlens.export.batch_norm import FoldedBatchNorm
from convlens.export.to_onnx import to_onnx
from tests.export.support import Exported


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "efficientnet_lite0"])
def test_what_is_stored_and_what_was_folded_add_up_to_the_network(
    name: str, request: pytest.FixtureRequest
) -> None:
    exported: Exported = request.getfixturevalue(name)
    stored = sum(
        math.prod(tensor.dims)
        for tensor in onnx.load(exported.result.path).graph.initializer
        if tensor.name.endswith((".weight", ".bias"))
    )
    folded = exported.result.card.model["folded_batch_norm"]
    network = exported.network
    statistics = sum(buffer.numel() for key, buffer in network.named_buffers() if "running" in key)
    assert stored + folded["learnable"] == sum(p.numel() for p in network.parameters())
    assert folded["statistics"] == statistics


class _Network(nn.Module):
    def __init__(self, *, affine: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8, affine=affine)
        self.never_run = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.norm(self.conv(pictures)).mean(dim=(2, 3))  # type: ignore[no-any-return]


def test_a_layer_that_is_never_run_counts_for_nothing() -> None:
    folded = to_onnx(_Network(), (3, 16, 16)).folded_batch_norm
    assert folded == FoldedBatchNorm(learnable=16 - 8, statistics=16)


def test_a_batch_norm_without_scale_and_bias_has_none_to_fold() -> None:
    folded = to_onnx(_Network(affine=False), (3, 16, 16)).folded_batch_norm
    assert folded == FoldedBatchNorm(learnable=-8, statistics=16)
