"""Models that the tests of the analysis share."""

import warnings
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from tests.analysis.graphs import save_lenet5


@pytest.fixture(scope="session")
def lenet5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet-5, 1x32x32, batch symbolic."""
    return save_lenet5(tmp_path_factory.mktemp("lenet5") / "lenet5.onnx")


@pytest.fixture(scope="session")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's ResNet-18 as PyTorch exports it, 3x224x224, batch symbolic."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("resnet18") / "resnet18.onnx"
    return export(torchvision.models.resnet18(), (2, 3, 224, 224), path)


@pytest.fixture(scope="session")
def padded_conv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Conv2d of 3x3 with padding 1, on 1x3x32x32."""
    path = tmp_path_factory.mktemp("conv") / "conv.onnx"
    return export(nn.Conv2d(3, 16, 3, stride=1, padding=1), (1, 3, 32, 32), path, batch=None)


def export(
    network: nn.Module, shape: tuple[int, ...], path: Path, batch: str | None = "batch"
) -> Path:
    """Export by PyTorch's own exporter."""
    dims = ({0: torch.export.Dim(batch)},) if batch else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.eval(),
            (torch.randn(shape),),
            dynamo=True,
            dynamic_shapes=dims,
            input_names=["input"],
            output_names=["output"],
            verbose=False,
        )
    assert program is not None
    program.save(path)
    return path
