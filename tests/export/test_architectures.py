from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from convlens.export import (
    ARCHITECTURES,
    ImageSizeError,
    UnknownArchitectureError,
    find_architecture,
)


@pytest.mark.parametrize(
    ("name", "parameters", "macs", "input_shape", "classes"),
    [
        ("lenet5", 61_706, 416_520, (1, 32, 32), 10),
        ("lenet5_1998", 60_000, 325_680, (1, 32, 32), 10),
        ("efficientnet_lite0", 4_652_008, 385_187_552, (3, 224, 224), 1000),
        ("resnet18", 11_689_512, 1_814_073_344, (3, 224, 224), 1000),
    ],
)
def test_architectures_have_their_published_size(
    name: str, parameters: int, macs: int, input_shape: tuple[int, int, int], classes: int
) -> None:
    architecture = find_architecture(name)
    cost = architecture.count_cost()
    assert (cost.parameters, cost.macs) == (parameters, macs)
    assert architecture.input_shape == input_shape
    assert len(architecture.labels) == classes


@pytest.mark.parametrize("name", ["alexnet", "vgg11_bn", "resnext50_32x4d", "convnext_tiny"])
def test_what_torchvision_states_is_what_is_counted(name: str) -> None:
    architecture = find_architecture(name)
    counted = architecture.count_cost()
    assert architecture.cost.parameters == counted.parameters
    assert architecture.cost.macs == pytest.approx(counted.macs, abs=0.5e6)


def test_every_builder_of_torchvisions_families_is_there() -> None:
    modules = {"alexnet", "vgg", "resnet", "efficientnet", "convnext"}
    builders = {
        name
        for name in torchvision.models.list_models(module=torchvision.models)
        if torchvision.models.get_model_builder(name).__module__.rpartition(".")[2] in modules
    }
    assert len(builders) >= 34
    assert set(ARCHITECTURES) == builders | {"lenet5", "lenet5_1998", "efficientnet_lite0"}


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("resnet152", "ResNet"),
        ("resnext101_64x4d", "ResNeXt"),
        ("wide_resnet50_2", "Wide ResNet"),
        ("efficientnet_b7", "EfficientNet"),
        ("efficientnet_v2_s", "EfficientNetV2"),
    ],
)
def test_a_family_is_called_by_its_own_name(name: str, family: str) -> None:
    assert find_architecture(name).family == family


@pytest.mark.parametrize("name", ["lenet5", "lenet5_1998", "efficientnet_lite0", "resnet18"])
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


@pytest.mark.parametrize(
    ("name", "weights", "resize", "interpolation"),
    [
        ("resnet50", "IMAGENET1K_V1", 256, "bilinear"),
        ("resnet50", "IMAGENET1K_V2", 232, "bilinear"),
        ("efficientnet_b1", "IMAGENET1K_V1", 256, "bicubic"),
    ],
)
def test_published_weights_bring_their_own_preprocessing(
    name: str, weights: str, resize: int, interpolation: str
) -> None:
    preprocessing = find_architecture(name).with_published_weights(weights).preprocessing
    assert (preprocessing.resize, preprocessing.interpolation) == (resize, interpolation)


def test_another_image_size_keeps_the_share_that_is_cropped_away() -> None:
    preprocessing = find_architecture("resnet18").at_image_size(448).preprocessing
    assert (preprocessing.resize, preprocessing.crop) == (512, (448, 448))


@pytest.mark.parametrize(("name", "size"), [("lenet5", 64), ("alexnet", 20)])
def test_a_size_that_a_network_cannot_take_is_refused_in_one_line(name: str, size: int) -> None:
    with pytest.raises(
        ImageSizeError, match=f"{name} cannot take pictures of {size}x{size}: "
    ) as e:
        find_architecture(name).at_image_size(size)
    assert "\n" not in str(e.value)


_OWN = """
from torch import nn

def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

def broken():
    raise ValueError("no such checkpoint")

def number():
    return 7
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "networks_of_ones_own.py").write_text(_OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "networks_of_ones_own"


def test_a_function_of_the_users_own_gives_an_architecture(own_module: str) -> None:
    architecture = find_architecture(f"{own_module}:network")
    assert (architecture.name, architecture.labels) == ("network", ())
    assert architecture.input_shape == (3, 224, 224)
    assert architecture.at_image_size(32).count_cost().parameters == 3 * 8 * 9 + 8 + 45


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("broken", "ValueError: no such checkpoint"),
        ("missing", "has no attribute 'missing'"),
        ("number", "returns int, not a torch.nn.Module"),
    ],
)
def test_a_function_that_gives_no_network_is_said_in_one_line(
    own_module: str, function: str, reason: str
) -> None:
    with pytest.raises(UnknownArchitectureError, match=reason):
        find_architecture(f"{own_module}:{function}")


def test_a_module_that_is_not_there_is_said() -> None:
    with pytest.raises(UnknownArchitectureError, match="No module named 'no_such_module'"):
        find_architecture("no_such_module:network")


def test_a_network_made_with_numbers_out_of_tensors_can_have_another_size() -> None:
    def build() -> nn.Module:
        rates = torch.linspace(0, 0.1, 3).tolist()
        layers = (nn.Dropout(rates[2]), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        return nn.Sequential(*layers)

    own = replace(find_architecture("resnet18"), build=build).at_image_size(64)
    assert own.input_shape == (3, 64, 64)
    assert own.cost.parameters == 8
