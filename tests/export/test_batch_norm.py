import math

import onnx
import pytest

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
