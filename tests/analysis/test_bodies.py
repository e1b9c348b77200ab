"""Operators inside If, Loop, Scan and local functions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from convlens.analysis import Report, analyze
from convlens.analysis.errors import GraphError
from convlens.analysis.verification import verify
from convlens.cli.runtime import open_session
from tests.analysis.graphs import Array, node, weight

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]


def _value(name: str, shape: Sequence[int | str] | None, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def _body(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[onnx.ValueInfoProto],
    inputs: Sequence[onnx.ValueInfoProto] = (),
    stored: Mapping[str, Array] | None = None,
) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(values, name) for name, values in (stored or {}).items()]
    return helper.make_graph(nodes, "body", inputs, outputs, tensors)


def _save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    functions: Sequence[onnx.FunctionProto] = (),
    inputs: Sequence[onnx.ValueInfoProto] = (),
    **stored: Array,
) -> Path:
    graph = _body(
        nodes,
        [_value(nodes[-1].output[0], None)],
        [_value("x", (1, 2, 8, 8)), *inputs],
        stored,
    )
    model = helper.make_model(graph, opset_imports=OPSETS, functions=functions, ir_version=10)
    onnx.save_model(model, path)
    return path


def _branch(kernel: int, name: str) -> onnx.GraphProto:
    conv = node("Conv", f"x {name}_w", name, pads=[kernel // 2] * 4)
    return _body([conv], [_value(name, None)], stored={f"{name}_w": weight(3, 2, kernel, kernel)})


def test_an_if_costs_its_dearer_branch_and_has_the_parameters_of_both(tmp_path: Path) -> None:
    path = _save(
        tmp_path / "model.onnx",
        [node("If", "c", "y", then_branch=_branch(1, "thin"), else_branch=_branch(3, "wide"))],
        inputs=[_value("c", (), BOOL)],
    )
    (layer,) = analyze(path).layers

    assert layer.outputs[0].shape == (1, 3, 8, 8)
    assert layer.macs == 64 * 3 * 2 * 9
    assert layer.parameters.learnable == 3 * 2 * (1 + 9)


def test_weights_of_one_name_in_two_branches_are_two(tmp_path: Path) -> None:
    branches = {
        name: _body([node("Add", "x w", name)], [_value(name, None)], stored={"w": weight(*size)})
        for name, size in (("then_branch", (8,)), ("else_branch", (8, 8)))
    }
    path = _save(tmp_path / "model.onnx", [node("If", "c", "y", **branches)], c=np.array([True]))

    assert analyze(path).totals.parameters == 8 + 64


def test_what_an_if_does_to_pixels_is_not_known(tmp_path: Path) -> None:
    path = _save(
        tmp_path / "model.onnx",
        [
            node("If", "c", "y", then_branch=_branch(1, "thin"), else_branch=_branch(3, "wide")),
            node("Relu", "y", "z"),
        ],
        inputs=[_value("c", (), BOOL)],
    )

    assert [(layer.status, layer.certainty.reason) for layer in analyze(path).layers] == [
        ("partial", "what it sees of the picture could not be worked out"),
        ("partial", "it lies behind y, and what that sees is not known"),
    ]


def test_an_if_whose_condition_is_known_costs_the_branch_that_is_taken(tmp_path: Path) -> None:
    path = _save(
        tmp_path / "model.onnx",
        [node("If", "c", "y", then_branch=_branch(1, "thin"), else_branch=_branch(3, "wide"))],
        c=np.array(True),
    )
    assert analyze(path).totals.macs == 64 * 3 * 2


def _loop_body() -> onnx.GraphProto:
    nodes = [
        node("Conv", "state w", "next", pads=[1, 1, 1, 1]),
        node("ReduceMean", "next", "mean", keepdims=0),
        node("Identity", "go", "go_on"),
    ]
    return _body(
        nodes,
        [_value("go_on", (), BOOL), _value("next", None), _value("mean", None)],
        [_value("i", (), INT64), _value("go", (), BOOL), _value("state", None)],
    )


def _loop(path: Path, trips: str, **more: Any) -> Report:
    loop = helper.make_node("Loop", [trips, "", "x"], ["y", "means"], body=_loop_body())
    return analyze(_save(path, [loop], w=weight(2, 2, 3, 3), **more))


def test_a_loop_costs_its_body_times_its_trips(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    report = _loop(path, "five", five=np.array(5))
    session = onnxruntime.InferenceSession(path)
    (measured,) = session.run(["y"], {"x": np.zeros((1, 2, 8, 8), np.float32)})
    (layer,) = report.layers

    assert layer.outputs[0].shape == measured.shape
    assert layer.outputs[1].shape == (5,)
    assert layer.macs == 5 * 128 * 2 * 9
    assert layer.parameters.learnable == 36


def test_a_loop_whose_trips_are_computed_is_partial(tmp_path: Path) -> None:
    report = _loop(tmp_path / "model.onnx", "n", inputs=[_value("n", (), INT64)])

    assert report.layers[0].macs == 128 * 2 * 9
    assert report.layers[0].status != "exact"


def _counting_loop(path: Path, until: int, *, starts: bool = True) -> Path:
    """A loop of at most ten trips that stops by itself once its counter has come to `until`."""
    body = _body(
        [node("Less", "i until", "go_on"), node("Relu", "x", "stacked")],
        [_value("go_on", (), BOOL), _value("stacked", None)],
        [_value("i", (), INT64), _value("go", (), BOOL)],
    )
    loop = helper.make_node("Loop", ["ten", "starts"], ["y"], body=body)
    return _save(path, [loop], ten=np.array(10), starts=np.array(starts), until=np.array(until))


def test_a_loop_that_may_stop_by_itself_has_trips_that_are_not_known(tmp_path: Path) -> None:
    path = _counting_loop(tmp_path / "model.onnx", until=3)
    (measured,) = onnxruntime.InferenceSession(path).run(
        ["y"], {"x": np.zeros((1, 2, 8, 8), np.float32)}
    )
    (layer,) = analyze(path).layers

    assert measured.shape == (4, 1, 2, 8, 8)
    assert layer.outputs[0].shape == ("y_trips", 1, 2, 8, 8)
    assert layer.status == "partial"


def test_a_loop_that_does_not_start_makes_nothing(tmp_path: Path) -> None:
    path = _counting_loop(tmp_path / "model.onnx", until=3, starts=False)
    (layer,) = analyze(path).layers

    assert layer.outputs[0].shape == (0, 1, 2, 8, 8)
    assert layer.flops == 0


def test_a_loop_whose_state_grows_is_partial(tmp_path: Path) -> None:
    body = _body(
        [node("Concat", "state x", "longer", axis=2), node("Identity", "go", "go_on")],
        [_value("go_on", (), BOOL), _value("longer", None)],
        [_value("i", (), INT64), _value("go", (), BOOL), _value("state", None)],
    )
    loop = helper.make_node("Loop", ["five", "", "x"], ["y"], body=body)
    (layer,) = analyze(_save(tmp_path / "model.onnx", [loop], five=np.array(5))).layers

    assert layer.outputs[0].shape == (1, 2, "y_dim2", 8)
    assert layer.status == "partial"


@pytest.mark.parametrize("axis", [2, -1])
def test_a_scan_stacks_its_slices_where_it_is_told(tmp_path: Path, axis: int) -> None:
    body = _body([node("Relu", "row", "out")], [_value("out", None)], [_value("row", None)])
    scan = helper.make_node(
        "Scan", ["x"], ["y"], body=body, num_scan_inputs=1, scan_input_axes=[1],
        scan_output_axes=[axis],
    )  # fmt: skip
    path = _save(tmp_path / "model.onnx", [scan])
    (measured,) = onnxruntime.InferenceSession(path).run(
        ["y"], {"x": np.zeros((1, 2, 8, 8), np.float32)}
    )

    assert analyze(path).outputs[0].shape == measured.shape


def test_a_scan_gives_its_slices_stacked(tmp_path: Path) -> None:
    body = _body(
        [node("Identity", "sum_in", "sum_out"), node("Relu", "row", "out")],
        [_value("sum_out", None), _value("out", None)],
        [_value("sum_in", None), _value("row", None)],
    )
    scan = helper.make_node(
        "Scan", ["start", "x"], ["last", "y"], body=body, num_scan_inputs=1, scan_input_axes=[2]
    )
    path = _save(tmp_path / "model.onnx", [scan], start=weight(4))
    (layer,) = analyze(path).layers

    assert [tensor.shape for tensor in layer.outputs] == [(4,), (8, 1, 2, 8)]
    assert layer.flops == 8 * 16


def test_a_scan_of_operator_set_8_runs_for_each_of_a_batch(tmp_path: Path) -> None:
    body = _body(
        [node("MatMul", "state w", "next"), node("Add", "next slice", "out")],
        [_value("next", (1, 3)), _value("out", (1, 3))],
        [_value("state", (1, 3)), _value("slice", (1, 3))],
        stored={"w": weight(3, 3)},
    )
    scan = helper.make_node("Scan", ["", "first", "x"], ["last", "y"], body=body, num_scan_inputs=1)
    graph = _body(
        [scan],
        [_value("last", (2, 1, 3)), _value("y", (2, 5, 1, 3))],
        [_value("first", (2, 1, 3)), _value("x", (2, 5, 1, 3))],
    )
    path = tmp_path / "model.onnx"
    opset = helper.make_opsetid("", 8)
    onnx.save_model(helper.make_model(graph, opset_imports=[opset], ir_version=4), path)
    fed = {"first": weight(2, 1, 3), "x": weight(2, 5, 1, 3)}

    (layer,) = analyze(path).layers

    measured = open_session(path.read_bytes()).run(["last", "y"], fed)
    assert [tensor.shape for tensor in layer.outputs] == [values.shape for values in measured]
    assert layer.macs == 2 * 5 * 9


def _function(name: str, nodes: Sequence[onnx.NodeProto]) -> onnx.FunctionProto:
    return helper.make_function("local", name, ["a", "w"], ["b"], nodes, OPSETS)


def test_a_local_functions_operators_are_layers(tmp_path: Path) -> None:
    block = _function(
        "block", [node("Conv", "a w", "t", pads=[1, 1, 1, 1]), node("Relu", "t", "b")]
    )
    calls = [
        helper.make_node("block", ["x", "w"], ["m"], domain="local"),
        helper.make_node("block", ["m", "w"], ["y"], domain="local"),
    ]
    report = analyze(_save(tmp_path / "model.onnx", calls, [block], w=weight(2, 2, 3, 3)))

    assert [layer.op_type for layer in report.layers] == ["Conv", "Relu"] * 2
    assert report.outputs[0].shape == (1, 2, 8, 8)
    assert report.totals.learnable == 36
    assert report.totals.macs == 2 * 128 * 2 * 9


def _refers(made: onnx.NodeProto, name: str, to: str) -> onnx.NodeProto:
    """The operator with an attribute that takes the value of one of the function's."""
    made.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=to, type="INTS"))
    return made


def _nested_functions() -> list[onnx.FunctionProto]:
    """A block of a Conv with an optional bias and a default stride, and a stage of two blocks."""
    conv = _refers(node("Conv", "a w bias", "t"), "pads", "p")
    block = helper.make_function(
        "local",
        "block",
        ["a", "w", "bias"],
        ["b"],
        [_refers(conv, "strides", "s"), node("Relu", "t", "b")],
        OPSETS,
        attributes=["p"],
        attribute_protos=[helper.make_attribute("s", [2, 1])],
    )
    first = helper.make_node("block", ["a", "w"], ["m"], "first", domain="local")
    second = helper.make_node("block", ["m", "w", "bias"], ["b"], "second", domain="local")
    second.attribute.append(helper.make_attribute("s", [1, 1]))
    nodes = [_refers(made, "p", "q") for made in (first, second)]
    stage = helper.make_function(
        "local", "stage", ["a", "w", "bias"], ["b"], nodes, OPSETS, attributes=["q"]
    )
    return [block, stage]


def test_what_lies_inside_a_call_is_named_by_the_way_to_it(tmp_path: Path) -> None:
    calls = [
        helper.make_node("stage", ["x", "w", "c"], ["h"], "one", domain="local", q=[1] * 4),
        helper.make_node("stage", ["h", "w"], ["y"], domain="local", q=[1, 0, 1, 0]),
    ]
    functions = _nested_functions()
    path = _save(tmp_path / "m.onnx", calls, functions, w=weight(2, 2, 3, 3), c=weight(2))
    report = analyze(path)
    session = onnxruntime.InferenceSession(path)
    (measured,) = session.run(["y"], {"x": np.zeros((1, 2, 8, 8), np.float32)})

    assert [layer.name for layer in report.layers] == [
        f"{stage}/{block}/{name}"
        for stage in ("one", "y")
        for block in ("first", "second")
        for name in ("t", "b")
    ]
    assert [layer.inputs[0].name for layer in report.layers[::2]] == ["x", "one/m", "h", "y/m"]
    assert [layer.inputs[2].name for layer in report.layers[::2]] == ["", "c", "", ""]
    assert [layer.outputs[0].shape for layer in report.layers[1::2]] == [
        (1, 2, 4, 8),
        (1, 2, 4, 8),
        (1, 2, 2, 6),
        (1, 2, *measured.shape[2:]),
    ]
    assert {layer.status for layer in report.layers} == {"exact"}
    assert verify(path, open_session).holds


def test_a_body_in_a_function_has_names_of_its_own_in_every_call(tmp_path: Path) -> None:
    choose = node("If", "c", "b", then_branch=_branch(1, "thin"), else_branch=_branch(3, "wide"))
    for attribute in choose.attribute:
        attribute.g.node[0].input[0] = "a"
    choice = helper.make_function("local", "choice", ["a", "c"], ["b"], [choose], OPSETS)
    calls = [
        helper.make_node("choice", ["x", "c"], ["h"], "one", domain="local"),
        helper.make_node("Conv", ["h", "w"], ["back"]),
        helper.make_node("choice", ["back", "c"], ["y"], "two", domain="local"),
    ]
    path = _save(
        tmp_path / "m.onnx", calls, [choice], [_value("c", (), BOOL)], w=weight(2, 3, 1, 1)
    )
    report = analyze(path)

    assert [layer.name for layer in report.layers] == ["one/b", "back", "two/b"]
    assert report.outputs[0].shape == (1, 3, 8, 8)
    assert report.totals.learnable == 2 * 3 * 2 * (1 + 9) + 6


def test_a_function_that_calls_itself_is_refused(tmp_path: Path) -> None:
    block = _function("block", [helper.make_node("block", ["a", "w"], ["b"], domain="local")])
    call = helper.make_node("block", ["x", "w"], ["y"], domain="local")
    with pytest.raises(GraphError, match="'block' calls itself"):
        analyze(_save(tmp_path / "model.onnx", [call], [block], w=weight(1)))


def test_functions_that_multiply_without_end_are_refused(tmp_path: Path) -> None:
    functions = [_function("f0", [node("Relu", "a", "b")])]
    for level in range(1, 40):
        call = f"f{level - 1}"
        nodes = [
            helper.make_node(call, ["a", "w"], ["t"], domain="local"),
            helper.make_node(call, ["t", "w"], ["b"], domain="local"),
        ]
        functions.append(_function(f"f{level}", nodes))
    call_last = helper.make_node("f39", ["x", "w"], ["y"], domain="local")
    with pytest.raises(GraphError, match="more than 200,000 operators"):
        analyze(_save(tmp_path / "model.onnx", [call_last], functions, w=weight(1)))
