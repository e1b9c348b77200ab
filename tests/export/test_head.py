import pytest
import torch
from torch import Tensor, nn

from convlens.export import ARCHITECTURES, ConversionError, TrainingError
from convlens.export.head import give_classes, head_path


@pytest.mark.parametrize(
    "name", ["alexnet", "vgg11", "resnet18", "convnext_tiny", "resnext50_32x4d"]
)
def test_the_head_of_a_published_network_is_the_layer_that_gives_its_classes(name: str) -> None:
    with torch.device("meta"):
        network = ARCHITECTURES[name].build()
    head = network.get_submodule(head_path(network, name))
    assert isinstance(head, nn.Linear)
    assert head.out_features == 1000


def test_a_network_that_gives_as_many_classes_already_keeps_its_layers() -> None:
    network = ARCHITECTURES["lenet5_1998"].build()
    before = [*network.modules()]
    give_classes(network, (1, 32, 32), 10, 0, "lenet5_1998")
    assert [*network.modules()] == before


def test_a_network_whose_classes_are_drawn_into_it_cannot_be_given_others() -> None:
    network = ARCHITECTURES["lenet5_1998"].build()
    with pytest.raises(TrainingError, match=r"^lenet5_1998 cannot be given 3 classes"):
        give_classes(network, (1, 32, 32), 3, 0, "lenet5_1998")


def test_a_network_without_a_fully_connected_layer_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"no layer of it can be replaced"):
        give_classes(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten()), (1, 8, 8), 2, 0, "mine")


def test_a_network_that_refuses_the_pictures_says_why() -> None:
    class Choosy(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            raise ValueError(f"only squares, not {tuple(pictures.shape[2:])}")

    with pytest.raises(ConversionError, match="Choosy does not take pictures of 3x8x9: only squa"):
        give_classes(Choosy(), (3, 8, 9), 2, 0, "choosy")
