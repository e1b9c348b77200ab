"""Networks that exporters wrote, damaged where graphs are damaged: never a crash."""

import contextlib
import json
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, ModelProto

from convlens.analysis import AnalysisError, analyze, explain, lint
from convlens.analysis.render_text import report_text
from tests.analysis.fuzzing import fuzzed

_EXPORTERS = Path(__file__).parent / "exporters"
_NETWORKS = [
    onnx.load(_EXPORTERS / f"{name}.onnx", load_external_data=False)
    for name in ("keras_small_opset17", "keras_small_opset9", "paddle_lenet", "paddle_resnet18")
]
_SIZES = st.integers(-2, 9) | st.sampled_from([2**31 - 1, 2**63 - 1, -(2**63)])
_OPERATORS = st.sampled_from(
    ["Add", "Concat", "Conv", "GatherND", "MatMul", "NonZero", "Reshape", "ScatterND", "TopK"]
)


def _mutate(model: ModelProto, data: st.DataObject) -> None:
    """Make one change of a kind and at a place that are drawn."""
    graph = model.graph
    change = data.draw(st.sampled_from(["node", "wire", "attribute", "weight", "input", "opset"]))
    if change == "opset":
        model.opset_import[0].version = data.draw(st.integers(1, 24))
    elif change == "input":
        dims = graph.input[0].type.tensor_type.shape.dim
        _change_dims(dims, data)
    elif change == "weight" and graph.initializer:
        tensor = data.draw(st.sampled_from(list(graph.initializer)))
        tensor.dims[:] = data.draw(st.lists(_SIZES, max_size=5))
    elif graph.node:
        _mutate_node(graph, data.draw(st.integers(0, len(graph.node) - 1)), change, data)


def _change_dims(dims: object, data: st.DataObject) -> None:
    del dims[:]  # type: ignore[attr-defined]
    for size in data.draw(st.lists(_SIZES | st.sampled_from(["n", "2*n"]), max_size=5)):
        key = "dim_param" if isinstance(size, str) else "dim_value"
        dims.add(**{key: size})  # type: ignore[attr-defined]


def _mutate_node(graph: onnx.GraphProto, index: int, change: str, data: st.DataObject) -> None:
    node = graph.node[index]
    if change == "node":
        if data.draw(st.booleans()):
            del graph.node[index]
        elif data.draw(st.booleans()):
            graph.node.add().CopyFrom(node)
        else:
            node.op_type = data.draw(_OPERATORS)
    elif change == "wire" and node.input:
        names = [*graph.node[0].input, *(name for other in graph.node for name in other.output)]
        position = data.draw(st.integers(0, len(node.input) - 1))
        node.input[position] = data.draw(st.sampled_from(names) | st.just(""))
    elif node.attribute:
        _change_attribute(data.draw(st.sampled_from(list(node.attribute))), data)


def _change_attribute(attribute: AttributeProto, data: st.DataObject) -> None:
    if attribute.type == AttributeProto.INTS:
        attribute.ints[:] = data.draw(st.lists(_SIZES, max_size=6))
    elif attribute.type == AttributeProto.INT:
        attribute.i = data.draw(_SIZES)
    else:
        attribute.type = data.draw(st.sampled_from([AttributeProto.INT, AttributeProto.STRING]))


@pytest.mark.fuzz
@fuzzed(60)
@given(network=st.sampled_from(_NETWORKS), data=st.data())
def test_damaged_graphs_never_crash_the_analysis(
    tmp_path: Path, network: ModelProto, data: st.DataObject
) -> None:
    model = ModelProto()
    model.CopyFrom(network)
    for _ in range(data.draw(st.integers(1, 4))):
        _mutate(model, data)
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path)
    for symbolic in (False, True):
        with contextlib.suppress(AnalysisError):
            report = analyze(path, symbolic=symbolic)
            json.dumps(report.to_json())
            report_text(report)
            lint(report)
            for layer in report.layers[:: len(report.layers) // 4 + 1]:
                explain(report, layer.name)
