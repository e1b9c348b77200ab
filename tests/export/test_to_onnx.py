from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from scipy.signal import correlate2d
from torch import Tensor, nn

from convlens.export import ConversionError, to_onnx
from tests.export.support import Exported, runner


def _load(exported: Exported) -> onnx.ModelProto:
    return onnx.load(exported.result.path)


def test_the_batch_is_symbolic_and_input_and_output_have_fixed_names(resnet18: Exported) -> None:
    graph = _load(resnet18).graph
    shapes = {
        value.name: [
            dimension.dim_param or dimension.dim_value
            for dimension in value.type.tensor_type.shape.dim
        ]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {"input": ["batch", 3, 224, 224], "logits": ["batch", 1000]}


def test_nodes_and_values_carry_the_modules_path(resnet18: Exported) -> None:
    nodes = _load(resnet18).graph.node
    names = [node.name for node in nodes]
    assert names[:5] == ["conv1", "relu", "maxpool", "layer1.0.conv1", "layer1.0.relu"]
    assert {"layer1.0.conv2", "layer1.0.add", "layer2.0.downsample.0", "fc"} <= set(names)
    assert len(set(names)) == len(names)
    assert [node.output[0] for node in nodes[:-1]] == names[:-1]


def test_the_scope_of_a_folded_convolution_is_the_convolutions(resnet18: Exported) -> None:
    node = next(node for node in _load(resnet18).graph.node if node.name == "layer1.0.conv2")
    scopes = {entry.key: entry.value for entry in node.metadata_props}
    assert list(scopes) == ["pkg.torch.onnx.name_scopes"]
    assert "'layer1.0.conv2'" in scopes["pkg.torch.onnx.name_scopes"]
    assert "bn2" not in scopes["pkg.torch.onnx.name_scopes"]


def test_batch_norm_is_folded(resnet18: Exported) -> None:
    operators = Counter(node.op_type for node in _load(resnet18).graph.node)
    assert operators["BatchNormalization"] == 0
    assert operators["Conv"] == 20


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "efficientnet_lite0"])
def test_no_file_contains_a_path_of_the_machine_it_was_made_on(
    name: str, request: pytest.FixtureRequest
) -> None:
    model = _load(request.getfixturevalue(name))
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # random bytes can spell anything
    text = model.SerializeToString()
    for trace in (b".py", b"site-packages", b"stack_trace", b"/home", b"/tmp", b"/usr"):
        assert trace not in text


def test_a_convolution_equals_scipys_correlation() -> None:
    kernel = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], dtype=np.float32)
    picture = np.zeros((5, 5), dtype=np.float32)
    picture[1:4, 1:4] = 1
    network = nn.Conv2d(1, 1, 3, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.from_numpy(kernel))
    run = runner(to_onnx(network, (1, 5, 5)).model.SerializeToString())
    np.testing.assert_array_equal(
        run(picture[np.newaxis, np.newaxis])[0, 0], correlate2d(picture, kernel, mode="valid")
    )


def test_a_padded_convolution_keeps_the_size_and_has_448_parameters() -> None:
    model = to_onnx(nn.Conv2d(3, 16, 3, stride=1, padding=1), (3, 32, 32)).model
    output = runner(model.SerializeToString())(np.zeros((1, 3, 32, 32), dtype=np.float32))
    assert output.shape == (1, 16, 32, 32)
    assert sum(np.prod(tensor.dims) for tensor in model.graph.initializer) == 448


class _Undecided(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        return pictures * 2 if pictures.sum() > 0 else pictures


def test_a_network_that_the_exporter_cannot_follow_is_named_in_one_line() -> None:
    with pytest.raises(ConversionError, match="PyTorch cannot export _Undecided: ") as caught:
        to_onnx(_Undecided(), (1, 4, 4))
    assert "\n" not in str(caught.value)


def test_layers_that_share_a_module_are_numbered(lenet5: Exported) -> None:
    names = [node.name for node in _load(lenet5).graph.node]
    assert names == [
        *("c1", "relu", "s2", "c3", "relu_1", "s4", "c5", "relu_2"),
        *("reshape", "f6", "relu_3", "output"),
    ]
