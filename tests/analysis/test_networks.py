"""Numbers of published networks, which come from elsewhere than this code."""

from pathlib import Path

import pytest

from convlens.analysis import Report, analyze


def _parameters(report: Report) -> list[int]:
    counts = [layer.parameters.learnable for layer in report.layers]
    return [count for count in counts if count]


def test_lenet5_has_the_parameters_of_its_usual_form(lenet5: Path) -> None:
    report = analyze(lenet5)

    assert _parameters(report) == [156, 2_416, 48_120, 10_164, 850]
    assert report.totals.parameters == report.totals.learnable == 61_706


@pytest.mark.parametrize(
    ("layer", "size"), [("conv1", 5), ("pool1", 6), ("conv2", 14), ("pool2", 16), ("conv3", 32)]
)
def test_lenet5_sees_more_from_layer_to_layer(lenet5: Path, layer: str, size: int) -> None:
    assert analyze(lenet5).layer(layer).receptive_field.size == (size, size)


def test_lenet5_sees_the_whole_picture_from_its_first_fully_connected_layer_on(
    lenet5: Path,
) -> None:
    report = analyze(lenet5)

    assert report.layer("flatten").receptive_field.size == (32, 32)
    for layer in ("fc1", "relu4", "fc2"):
        assert report.layer(layer).receptive_field.size is None
        assert report.layer(layer).receptive_field.global_since == "fc1"


def test_resnet18s_final_map_sees_435_pixels(resnet18: Path) -> None:
    layers = analyze(resnet18).layers
    final = next(layer for layer in layers[::-1] if layer.op_type == "Relu").receptive_field

    assert (final.size, final.stride, final.start) == ((435, 435), (32, 32), (-217, -217))
    assert final.aligned
    assert final.global_since is None


def test_resnet18_has_the_published_macs_and_parameters(resnet18: Path) -> None:
    totals = analyze(resnet18).totals

    assert totals.macs == 1_814_073_344
    assert totals.learnable == 11_689_512


def test_resnet18s_layers_carry_their_pytorch_modules(resnet18: Path) -> None:
    report = analyze(resnet18)
    scopes = [layer.scope for layer in report.layers if layer.op_type == "Conv"]

    assert scopes[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert all(
        layer.parameters.folded_batch_norm for layer in report.layers if layer.op_type == "Conv"
    )


def test_resnet18s_layers_are_all_exact_and_keep_the_symbolic_batch(resnet18: Path) -> None:
    report = analyze(resnet18)

    assert {layer.status for layer in report.layers} == {"exact"}
    assert report.symbols == ("batch",)
    assert all(
        layer.outputs[0].shape and layer.outputs[0].shape[0] == "batch" for layer in report.layers
    )


def test_resnet18_at_another_size_and_batch_scales_its_macs(resnet18: Path) -> None:
    normal = analyze(resnet18)
    larger = analyze(resnet18, batch=3, input_size=(448, 224))
    head = normal.layers[-1].macs
    assert head is not None

    assert larger.layer("layer4.1.conv2").outputs[0].shape == (3, 512, 14, 7)
    assert larger.totals.macs == 3 * (2 * (normal.totals.macs - head) + head)
    assert not larger.symbols


def test_a_conv_with_same_padding_keeps_the_size_and_has_448_parameters(padded_conv: Path) -> None:
    report = analyze(padded_conv)

    assert report.layers[0].outputs[0].shape == (1, 16, 32, 32)
    assert report.totals.learnable == 448
