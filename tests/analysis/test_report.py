import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from convlens.analysis import Layer, Report, analyze
from convlens.analysis.errors import LayerNotFoundError
from tests.analysis.graphs import save_lenet5

INTEGERS = "list of integers"
OPTIONAL_INTEGER = (int, type(None))
OPTIONAL_TEXT = (str, type(None))

# The schema "convlens.analysis/1": for each object its keys, for each key the type of its value.
TENSOR = {"name": str, "dtype": str, "shape": "shape"}
LAYER = {
    "index": int,
    "name": str,
    "op_type": str,
    "scope": OPTIONAL_TEXT,
    "inputs": [{"name": str, "shape": "shape"}],
    "outputs": [TENSOR],
    "attributes": dict,
    "parameters": {"learnable": int, "statistics": int},
    "macs": OPTIONAL_INTEGER,
    "flops": OPTIONAL_INTEGER,
    "weight_bytes": int,
    "activation_bytes": OPTIONAL_INTEGER,
    "arithmetic_intensity": (float, type(None)),
    "receptive_field": {
        "size": "per axis",
        "stride": "per axis",
        "start": "per axis",
        "global_since": OPTIONAL_TEXT,
        "aligned": bool,
    },
    "status": str,
    "reason": OPTIONAL_TEXT,
}
SCHEMA = {
    "schema": str,
    "model": {
        "path": str,
        "sha256": str,
        "ir_version": int,
        "opset": int,
        "producer": str,
        "file_bytes": int,
    },
    "inputs": [TENSOR],
    "outputs": [TENSOR],
    "layers": [LAYER],
    "totals": dict.fromkeys(
        (
            "parameters",
            "learnable",
            "statistics",
            "macs",
            "flops",
            "weight_bytes",
            "activation_bytes",
            "peak_activation_bytes",
        ),
        int,
    ),
    "notes": [str],
}


def _check(value: Any, schema: Any, where: str) -> None:
    if isinstance(schema, Mapping):
        assert list(value) == list(schema), where
        for key, entry in schema.items():
            _check(value[key], entry, f"{where}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list), where
        for index, entry in enumerate(value):
            _check(entry, schema[0], f"{where}[{index}]")
    elif schema == "shape":
        assert value is None or all(isinstance(dim, int | str) for dim in value), where
    elif schema == "per axis":
        assert value is None or all(isinstance(entry, int | str | None) for entry in value), where
    else:
        assert isinstance(value, schema), where
        assert schema is bool or not isinstance(value, bool), where


@pytest.mark.parametrize("model", ["lenet5", "resnet18"])
def test_the_json_is_that_of_the_schema(model: str, request: pytest.FixtureRequest) -> None:
    report = json.loads(json.dumps(analyze(request.getfixturevalue(model)).to_json()))

    _check(report, SCHEMA, "report")
    assert report["schema"] == "convlens.analysis/1"
    assert {layer["status"] for layer in report["layers"]} <= {"exact", "partial", "unknown"}


def test_the_json_states_the_numbers_of_a_layer(lenet5: Path) -> None:
    report = analyze(lenet5).to_json()
    layer = report["layers"][3]

    assert report["model"]["file_bytes"] == lenet5.stat().st_size
    assert len(report["model"]["sha256"]) == 64
    assert layer["inputs"][1] == {"name": "w2", "shape": [16, 6, 5, 5]}
    assert layer["outputs"] == [
        {"name": "conv2", "dtype": "float32", "shape": ["batch", 16, 10, 10]}
    ]
    assert layer["activation_bytes"] == 16 * 100 * 4
    assert layer["weight_bytes"] == 2416 * 4
    assert layer["receptive_field"] == {
        "size": [14, 14],
        "stride": [2, 2],
        "start": [0, 0],
        "global_since": None,
        "aligned": True,
    }


def test_the_totals_are_the_sums_of_the_layers(resnet18: Path) -> None:
    report = analyze(resnet18)

    assert report.totals.macs == sum(layer.macs or 0 for layer in report.layers)
    assert report.totals.learnable == sum(layer.parameters.learnable for layer in report.layers)
    assert report.totals.weight_bytes == 4 * report.totals.parameters


def test_a_layer_is_found_by_name_output_scope_and_index(resnet18: Path) -> None:
    report = analyze(resnet18)
    layer = report.layers[7]

    assert _found(report, layer.name, layer.outputs[0].name, "7") == [layer] * 3
    assert report.layer("layer1.0.conv1").op_type == "Conv"


def _found(report: Report, *names: str) -> list[Layer]:
    return [report.layer(name) for name in names]


def test_a_layer_that_is_not_there_is_answered_with_those_nearest(lenet5: Path) -> None:
    with pytest.raises(LayerNotFoundError, match="no layer is called 'conv_2'; did you mean conv2"):
        analyze(lenet5).layer("conv_2")


def test_the_report_carries_the_model_card(tmp_path: Path) -> None:
    path = save_lenet5(
        tmp_path / "model.onnx", {"convlens.weights": '{"origin": "random", "seed": 3}'}
    )
    assert analyze(path).model.card.weights_origin == "random"


def test_a_card_that_cannot_be_read_is_noted_and_the_graph_analysed(tmp_path: Path) -> None:
    path = save_lenet5(tmp_path / "model.onnx", {"convlens.labels": "{"})
    report = analyze(path)

    assert "the model card is not used: metadata convlens.labels: not JSON" in report.notes[0]
    assert report.totals.parameters == 61_706


def test_the_package_exports_what_it_lists() -> None:
    import convlens.analysis

    for name in convlens.analysis.__all__:
        assert not inspect.ismodule(getattr(convlens.analysis, name))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = convlens.analysis.nothing


def test_the_json_in_the_documentation_is_what_comes_out() -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs" / "analyze.md").read_text()
    shown = json.loads(text.split("```json\n")[1].split("```")[0])
    made = analyze(root / "server" / "bundled" / "models" / "lenet5.onnx").to_json()

    assert made["layers"][3] == shown["layers"][0]
    assert made["model"]["sha256"].startswith(shown["model"]["sha256"].rstrip("."))
    for value in (made, shown):
        del value["layers"], value["model"]["sha256"], value["model"]["path"]
    assert made == shown
