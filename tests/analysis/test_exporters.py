"""Files of other exporters than PyTorch's, and of the ONNX model zoo."""

from pathlib import Path

import onnx
import pytest

from convlens.analysis import Report, analyze
from convlens.analysis.verification import verify
from convlens.cli.runtime import open_session

EXPORTS = Path(__file__).parent / "exporters"
ZOO = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def _last_local(report: Report) -> tuple[object, ...]:
    """Size, stride and start of the last layer with a local path, the same for both axes."""
    fields = [layer.receptive_field for layer in report.layers if layer.receptive_field.size]
    size, stride, start = fields[-1].size, fields[-1].stride, fields[-1].start
    assert size is not None
    assert stride is not None
    assert start is not None
    assert size[0] == size[1]
    return size[0], stride[0], start[0]


def _assert_complete(report: Report) -> None:
    shapes = [tensor.shape for layer in report.layers for tensor in layer.outputs if tensor.name]

    assert None not in shapes
    assert {layer.status for layer in report.layers} == {"exact"}
    assert report.notes == ()


@pytest.mark.parametrize("name", ["keras_export", "keras_small_opset9", "keras_small_opset17"])
def test_a_run_confirms_every_shape_and_field_of_a_keras_network(name: str) -> None:
    path = EXPORTS / f"{name}.onnx"
    verification = verify(path, open_session)

    _assert_complete(analyze(path))
    assert verification.differences == ()
    assert verification.not_compared == ()
    assert verification.units > 50


@pytest.mark.parametrize(
    ("name", "parameters", "learnable", "macs", "field"),
    [
        # Without the BatchNormalizations, which tf2onnx folds. Where torchvision pads both sides,
        # SAME pads the end alone at each of the strides 1, 2, 4, 8 and 16: -245 + 31.
        ("keras_mobilenetv2", 3_494_952, 3_494_952, 300_774_272, (491, 32, -214)),
        ("paddle_lenet", 61_610, 61_610, 341_256, (14, 4, -1)),
        ("paddle_resnet18", 11_699_112, 11_689_512, 1_814_073_344, (435, 32, -217)),
        ("paddle_shufflenet_v2", 2_294_784, 2_278_604, 144_907_992, (527, 32, -263)),
    ],
)
def test_published_networks_have_the_totals_that_their_framework_counts(
    name: str, parameters: int, learnable: int, macs: int, field: tuple[int, int, int]
) -> None:
    report = analyze(EXPORTS / f"{name}.onnx")
    totals = report.totals

    _assert_complete(report)
    assert (totals.parameters, totals.learnable, totals.macs) == (parameters, learnable, macs)
    assert _last_local(report) == field


def test_the_picture_size_is_set_on_the_axes_of_a_network_with_channels_last() -> None:
    path = EXPORTS / "keras_mobilenetv2.onnx"
    small = analyze(path, batch=2, input_size=(96, 160))
    formula = analyze(path, symbolic=True)

    assert small.inputs[0].shape == (2, 96, 160, 3)
    assert formula.inputs[0].shape == ("N", "H", "W", 3)
    assert small.layers[-1].outputs[0].shape == (2, 1000)


@pytest.mark.parametrize(
    ("name", "learnable", "macs", "field"),
    [
        ("bvlc_alexnet", 60_965_224, 654_560_384, (195, 32, -64)),
        ("densenet121", 7_979_112, 2_834_161_664, (2071, 32, -1021)),
        ("inception_v1", 6_998_552, 1_431_556_352, (907, 32, -327)),
        ("inception_v2", 11_196_584, 2_018_851_840, (891, 32, -343)),
        ("resnet50", 25_557_032, 4_089_184_256, (619, 32, -213)),
        ("shufflenet", 1_393_320, 124_664_528, (719, 32, -263)),
        ("squeezenet", 1_235_496, 349_151_936, (207, 16, -88)),
        ("vgg19", 143_667_240, 19_632_062_464, (268, 32, -118)),
        ("zfnet512", 87_250_536, 1_481_727_008, (155, 32, -48)),
    ],
)
def test_the_model_zoos_networks_of_opset_9_are_analysed_to_the_last_layer(
    name: str, learnable: int, macs: int, field: tuple[int, int, int]
) -> None:
    """Their weights are made by ConstantOfShape.

    The parameters of AlexNet, GoogLeNet, ResNet-50, SqueezeNet 1.1 and VGG-19 are the published
    ones, as are the MACs of the last three and of DenseNet-121.
    """
    report = analyze(ZOO / f"light_{name}.onnx")

    _assert_complete(report)
    assert (report.totals.learnable, report.totals.macs) == (learnable, macs)
    assert _last_local(report) == field
