"""Parameters and MACs as torchvision publishes them with its weights."""

from pathlib import Path

import pytest
import torchvision

from convlens.analysis import analyze
from convlens.analysis.convention import CONVENTIONS, in_convention
from tests.analysis.weightless import export_weightless, published_models

ONE_OF_EACH = ("alexnet", "vgg11", "resnet18", "efficientnet_b0", "convnext_tiny")


def _check(name: str, folder: Path) -> None:
    """The totals at each size for which there are weights are the published ones."""
    for entry in torchvision.models.get_model_weights(name):
        size = entry.transforms().crop_size[0]
        path = folder / f"{name}-{size}.onnx"
        if not path.exists():
            export_weightless(name, size, path)
        totals = analyze(path).totals

        assert totals.learnable == entry.meta["num_params"]
        # Three decimals, rounded.
        assert totals.macs / 1e9 == pytest.approx(entry.meta["_ops"], abs=0.0005001)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_totals_of_one_model_a_family_are_the_published_ones(name: str, tmp_path: Path) -> None:
    _check(name, tmp_path)


@pytest.mark.sweep
@pytest.mark.parametrize("name", published_models())
def test_the_totals_of_every_model_are_the_published_ones(name: str, tmp_path: Path) -> None:
    _check(name, tmp_path)


def test_other_tools_totals_are_theirs(resnet18: Path) -> None:
    """What fvcore 0.1.5 and onnx-tool 1.0.1 print for this network and this file."""
    report = analyze(resnet18, batch=1)
    totals = {name: in_convention(report, name) for name in CONVENTIONS}

    assert totals["torchvision"].operations == 1_814_073_344
    assert totals["fvcore"].operations == 1_819_065_856
    assert totals["onnx-tool"].operations == 1_818_966_504
    assert totals["flops"].operations == report.totals.flops > 2 * report.totals.macs
    assert totals["onnx-tool"].parameters == report.totals.parameters
    assert totals["fvcore"].parameters == 11_689_512
    assert all("\n" not in entry.explanation for entry in totals.values())
