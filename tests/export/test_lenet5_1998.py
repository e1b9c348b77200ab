import numpy as np
import onnx
import pytest
import torch

from convlens.export.lenet5_1998 import (
    LeNet5Of1998,
    SparseConvolution,
    Subsampling,
    drawings,
    squash,
)
from convlens.export.to_onnx import to_onnx


def test_it_has_the_papers_parameters_layer_by_layer() -> None:
    counts = {
        name: sum(parameter.numel() for parameter in layer.parameters())
        for name, layer in LeNet5Of1998().named_children()
    }
    assert counts == {
        "c1": 156,
        "s2": 12,
        "c3": 1_516,
        "s4": 32,
        "c5": 48_120,
        "f6": 10_164,
        "output": 0,
    }
    assert sum(counts.values()) == 60_000


def test_a_map_of_c3_sees_the_maps_of_the_papers_table_and_no_others() -> None:
    seen = []
    c3 = LeNet5Of1998().c3
    for source in range(6):
        maps = torch.zeros(1, 6, 5, 5)
        changed = maps.clone()
        changed[0, source] = 1.0
        with torch.no_grad():
            seen.append((c3(changed) != c3(maps)).flatten().tolist())
    rows = ["".join("X" if sees else "." for sees in row) for row in seen]
    assert rows == [
        "X...XXX..XXXX.XX",
        "XX...XXX..XXXX.X",
        "XXX...XXX..X.XXX",
        ".XXX..XXXX..X.XX",
        "..XXX..XXXX.XX.X",
        "...XXX..XXXX.XXX",
    ]


def test_subsampling_adds_up_squares_scales_and_shifts() -> None:
    layer = Subsampling(1)
    with torch.no_grad():
        layer.coefficient.fill_(2.0)
        layer.bias.fill_(1.0)
        assert layer(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])).item() == 21.0


def test_squashing_keeps_plus_and_minus_one() -> None:
    torch.testing.assert_close(
        squash(torch.tensor([1.0, -1.0])), torch.tensor([1.0, -1.0]), atol=1e-4, rtol=0
    )


def test_the_nearest_drawing_has_the_largest_logit_which_is_zero_for_itself() -> None:
    logits = LeNet5Of1998().output(drawings())
    assert logits.argmax(dim=1).tolist() == list(range(10))
    assert logits.diagonal().tolist() == [0.0] * 10
    # No two digits are drawn alike.
    assert (logits + torch.eye(10) * -1e9).max() < -16


def test_sparse_connections_need_one_convolution_for_each_number_of_sources() -> None:
    model = to_onnx(LeNet5Of1998(), (1, 32, 32)).model
    kernels = [
        tensor.dims for tensor in model.graph.initializer if "c3.convolutions" in tensor.name
    ]
    assert sum(int(np.prod(dims)) for dims in kernels) == 1_516
    assert sum(node.op_type == "Conv" for node in model.graph.node) == 5
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("sources", [(0,), (0, 1)])
def test_one_group_of_maps_is_a_plain_convolution(sources: tuple[int, ...]) -> None:
    layer = SparseConvolution(((sources,),))
    (dense,) = layer.convolutions
    maps = torch.rand(2, len(sources), 8, 8)
    torch.testing.assert_close(layer(maps), dense(maps))
