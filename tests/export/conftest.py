"""Exported files, each made once for all tests of the folder."""

import pytest

from tests.export.support import Exported, export


@pytest.fixture(scope="session")
def lenet5(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Trained by the recipe."""
    return export("lenet5", "default", tmp_path_factory.mktemp("lenet5"))


@pytest.fixture(scope="session")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """With random weights."""
    return export("resnet18", "random", tmp_path_factory.mktemp("resnet18"))


@pytest.fixture(scope="session")
def efficientnet_lite0(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """With the ImageNet weights of its package."""
    return export("efficientnet_lite0", "default", tmp_path_factory.mktemp("efficientnet_lite0"))
