import pytest
import torch

from convlens.export import ARCHITECTURES, find_architecture


@pytest.mark.parametrize(
    ("name", "parameters", "input_shape", "classes"),
    [
        ("lenet5", 61_706, (1, 32, 32), 10),
        ("efficientnet_lite0", 4_652_008, (3, 224, 224), 1000),
        ("resnet18", 11_689_512, (3, 224, 224), 1000),
    ],
)
def test_architectures_have_their_published_size(
    name: str, parameters: int, input_shape: tuple[int, int, int], classes: int
) -> None:
    architecture = find_architecture(name)
    assert architecture.count_parameters() == parameters
    assert architecture.input_shape == input_shape
    assert len(architecture.labels) == classes


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_builds_a_network_with_a_logit_for_each_label(name: str) -> None:
    architecture = find_architecture(name)
    with torch.no_grad():
        logits = architecture.build().eval()(torch.zeros(1, *architecture.input_shape))
    assert logits.shape == (1, len(architecture.labels))


def test_resnet18_is_preprocessed_as_torchvision_says() -> None:
    preprocessing = find_architecture("resnet18").preprocessing
    assert preprocessing.resize == 256
    assert preprocessing.crop == (224, 224)
    assert preprocessing.interpolation == "bilinear"
    assert preprocessing.mean == (0.485, 0.456, 0.406)
