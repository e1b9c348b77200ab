import pytest
import torch

from convlens.export.lenet5 import LeNet5


def test_lenet5_has_the_usual_parameters_layer_by_layer() -> None:
    network = LeNet5()
    counts = {
        name: sum(parameter.numel() for parameter in layer.parameters())
        for name, layer in network.named_children()
    }
    assert counts == {
        "c1": 156,
        "s2": 0,
        "c3": 2_416,
        "s4": 0,
        "c5": 48_120,
        "f6": 10_164,
        "output": 850,
    }
    assert sum(counts.values()) == 61_706


@pytest.mark.parametrize("batch", [1, 4])
def test_lenet5_gives_ten_logits_a_picture(batch: int) -> None:
    assert LeNet5()(torch.zeros(batch, 1, 32, 32)).shape == (batch, 10)
