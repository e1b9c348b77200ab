"""Files that contradict themselves: a clear error or a partial report, never a crash."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from convlens.analysis import AnalysisError, Report, analyze, explain, lint
from convlens.analysis.errors import GraphError, InputSizeError, ModelFileError
from convlens.analysis.functions import inline_functions
from convlens.analysis.shape_functions import SHAPE_FUNCTIONS
from tests.analysis.fuzzing import fuzzed
from tests.analysis.graphs import node, weight


def _save(path: Path, nodes: Sequence[onnx.NodeProto], shape: Sequence[int | str | None]) -> Path:
    """Write a model that nobody checks."""
    stored = {
        "w": weight(4, 3, 3, 3),
        "m": weight(3, 5),
        "ints": np.array([1, -1, 3], np.int64),
        "big": np.array([2**62, 2**62], np.int64),
        "zero": np.array(0, np.int64),
        "half": np.array([1, 1, 0.5, 0.5], np.float32),
        "yes": np.array(True),
    }
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in stored.items()],
    )
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def _report(tmp_path: Path, *nodes: onnx.NodeProto) -> Report:
    return analyze(_save(tmp_path / "model.onnx", nodes, (1, 3, 8, 8)))


def test_a_cycle_is_refused_with_a_node_of_it(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="the graph has a cycle: a waits for its own output"):
        _report(tmp_path, node("Add", "x b", "a"), node("Relu", "a", "b"))


def test_a_node_that_reads_its_own_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="reads its own output 'a'"):
        _report(tmp_path, node("Add", "x a", "a"))


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    report = _report(tmp_path, node("Relu", "conv", "y"), node("Conv", "x w", "conv"))

    assert [layer.name for layer in report.layers] == ["conv", "y"]
    assert [layer.index for layer in report.layers] == [0, 1]
    assert report.layers[1].outputs[0].shape == (1, 4, 6, 6)


def test_an_input_that_nothing_makes_is_named_and_the_rest_is_analysed(tmp_path: Path) -> None:
    report = _report(tmp_path, node("Conv", "x w", "conv"), node("Add", "conv ghost", "y"))

    assert report.notes == ("ghost is read, and nothing makes it",)
    assert report.layers[0].macs == 4 * 36 * 27
    assert [layer.status for layer in report.layers] == ["exact", "partial"]


def test_a_tensor_that_is_made_twice_is_named(tmp_path: Path) -> None:
    report = _report(tmp_path, node("Relu", "x", "y"), node("Conv", "x w", "y"))
    assert "y is made more than once" in report.notes


@pytest.mark.parametrize(
    "bad",
    [
        node("Conv", "x m", "bad"),
        node("Conv", "x w", "bad", strides=[1]),
        node("Transpose", "x", "bad", perm=[0, 1, 2, 9]),
        node("Concat", "x m", "bad", axis=1),
        node("Flatten", "x", "bad", axis=77),
        node("Reshape", "x half", "bad"),
        node("MaxPool", "x", "bad", kernel_shape=[0, 0]),
    ],
)
def test_an_operator_that_contradicts_itself_costs_one_row(
    tmp_path: Path, bad: onnx.NodeProto
) -> None:
    report = _report(tmp_path, bad, node("Conv", "x w", "good"))

    assert report.layer("bad").status != "exact"
    assert report.layer("good").status == "exact"


_ANALYSED_IN_2_GB = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30,) * 2)
from convlens.analysis import AnalysisError, analyze, explain, lint
for path in sys.argv[1:]:
    try:
        report = analyze(path)
        lint(report)
        explain(report, report.layers[0].name)
    except AnalysisError:
        pass
"""


def test_a_window_of_any_size_takes_no_memory_and_no_time(tmp_path: Path) -> None:
    huge, vast = 2**31 - 1, 2**63 - 1
    nodes = [
        node("MaxPool", "x", "y", kernel_shape=[1, huge]),
        node("AveragePool", "x", "y", kernel_shape=[huge, huge], pads=[huge] * 4),
        node("Conv", "x w", "y", dilations=[1, vast]),
        node("Conv", "x w", "y", dilations=[huge, huge], pads=[huge] * 4),
        node("Conv", "x w", "y", strides=[vast, 1]),
        node("ConvTranspose", "x w", "y", kernel_shape=[huge, 3]),
        node("ConvTranspose", "x w", "y", strides=[1, vast]),
        helper.make_node("Resize", ["x", "", "", "big"], ["y"], mode="linear", antialias=1),
        helper.make_node("Resize", ["x", "", "", "big"], ["y"], axes=[2, 3]),
    ]
    paths = [
        _save(tmp_path / f"{index}.onnx", [one], (1, 3, 8, 8)) for index, one in enumerate(nodes)
    ]
    _output_of(_ANALYSED_IN_2_GB, paths)


def _output_of(script: str, paths: Sequence[Path]) -> str:
    """What it prints in a process of its own: the one that runs the tests would go down with it."""
    command = [sys.executable, "-c", script, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


_ANALYSED_AND_VERIFIED = """
import sys
from convlens.analysis import analyze
from convlens.analysis.errors import AnalysisError
from convlens.analysis.verification import verify
from convlens.cli.runtime import open_session
from convlens.server.providers import RUNTIME_ERRORS
for path in sys.argv[1:]:
    report = analyze(path)
    print(report.layer("good").status, *report.notes)
    try:
        print(verify(path, open_session).lines[0])
    except (AnalysisError, *RUNTIME_ERRORS) as error:
        print(" ".join(str(error).split()))
"""


def test_what_crashes_the_native_shape_inference_is_kept_from_it(tmp_path: Path) -> None:
    crashing = [
        helper.make_node("EyeLike", [""], ["bad"], dtype=TensorProto.FLOAT),
        node("GatherND", "x ints", "bad", batch_dims=-(2**31)),
        node("GatherND", "x ints", "bad", batch_dims=-(2**63)),
        node("LayerNormalization", "x m", "bad", axis=2**31),
        helper.make_node("RegexFullMatch", [""], ["bad"], pattern="."),
        node("Split", "x", "bad", num_outputs=2**31),
    ]
    paths = [tmp_path / f"{index}.onnx" for index in range(len(crashing))]
    for path, bad in zip(paths, crashing, strict=True):
        _save(path, [node("Conv", "x w", "good"), bad], (1, 3, 8, 8))

    # In a process of its own: the one that runs the tests would go down with it.
    lines = _output_of(_ANALYSED_AND_VERIFIED, paths).splitlines()
    for path, bad, said, refused in zip(paths, crashing, lines[::2], lines[1::2], strict=True):
        assert said.startswith("exact onnx's shape inference failed")
        assert f"it would not survive {bad.op_type}" in said
        assert refused.startswith(f"{path}: the runtime would not survive {bad.op_type}")


def test_negative_dimensions_are_kept_from_the_native_shape_inference(tmp_path: Path) -> None:
    cut = node("Slice", "r first second", "bad")
    crashing = [
        ([node("GatherND", "x negative", "bad")], (1, 3, 8, 8)),
        ([node("Relu", "x", "r"), cut], (1, 3, 8, 8)),
        ([node("Relu", "x", "r"), cut], (-3, 3, 8, 8)),
    ]
    paths = [tmp_path / f"{index}.onnx" for index in range(len(crashing))]
    for path, (nodes, shape) in zip(paths, crashing, strict=True):
        _save(path, [*nodes, node("Conv", "x w", "good")], shape)
        model = onnx.load(path)
        model.graph.initializer.add(name="negative", data_type=TensorProto.INT64, dims=[2, -2])
        for name, place in (("first", 0), ("second", 1)):
            place_of = numpy_helper.from_array(np.array([place], np.int64), name)
            model.graph.initializer.append(place_of)
        model.graph.value_info.append(
            helper.make_tensor_value_info("r", TensorProto.FLOAT, [-2, -3, 8, 8])
        )
        onnx.save_model(model, path)

    lines = _output_of(_ANALYSED_AND_VERIFIED, paths).splitlines()

    assert [line.split()[0] for line in lines[::2]] == ["exact"] * 3


def test_a_split_into_more_parts_than_it_has_outputs_takes_no_memory(tmp_path: Path) -> None:
    report = _report(tmp_path, node("Split", "x", "y", axis=1, num_outputs=2**31 - 1))
    assert report.outputs[0].shape == (1, 3, 8, 8)


def test_a_negative_dimension_is_not_known(tmp_path: Path) -> None:
    path = _save(tmp_path / "model.onnx", [node("Relu", "x", "y")], (-5, 3, None, 8))
    assert analyze(path).outputs[0].shape == ("x_dim0", 3, "x_dim2", 8)


@pytest.mark.parametrize("op_type", ["Flatten", "Transpose"])
def test_an_axis_without_entries_is_analysed(tmp_path: Path, op_type: str) -> None:
    path = _save(tmp_path / "model.onnx", [node(op_type, "x", "y")], (2, 3, 0))
    assert analyze(path).layers[0].status == "exact"


def test_a_truth_is_no_dimension(tmp_path: Path) -> None:
    report = _report(tmp_path, node("OneHot", "x yes", "y"), node("SpaceToDepth", "y", "z"))
    assert report.layers[0].outputs[0].shape == (1, 3, 8, 8, "y_dim4")


def test_a_dimension_beyond_64_bits_is_not_known(tmp_path: Path) -> None:
    double = node("Concat", "endless endless", "y", axis=0)
    path = _save(tmp_path / "model.onnx", [double, node("NonZero", "y", "z")], (1, 3))
    model = onnx.load(path)
    model.graph.initializer.add(name="endless", data_type=TensorProto.FLOAT, dims=[2**63 - 1])
    onnx.save_model(model, path)

    assert analyze(path).layers[0].outputs[0].shape == ("y_dim0",)


def test_an_operator_without_inputs_is_linted_and_explained(tmp_path: Path) -> None:
    window: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", [], ["a"], **window),
        helper.make_node("ConvTranspose", ["x"], ["b"], **window),
        helper.make_node("ConvTranspose", ["x", "w"], ["c"], **window, output_padding=[1]),
        helper.make_node("MaxPool", ["x"], [], name="d", **window),
        helper.make_node("Transpose", [], ["e"]),
        node("Relu", "x", "y"),
    ]
    report = _report(tmp_path, *nodes)

    lint(report)
    assert [explain(report, layer.name).layer.name for layer in report.layers[:4]] == [*"abcd"]
    assert report.layer("y").status == "exact"


def test_scales_and_repeats_that_mean_nothing_cost_one_row(tmp_path: Path) -> None:
    scales = helper.make_node("Resize", ["x", "", "endless"], ["a"], mode="linear")
    nodes = [scales, node("Tile", "x never", "b"), node("Conv", "x w", "good")]
    path = _save(tmp_path / "model.onnx", nodes, (1, 3, 8, 8))
    model = onnx.load(path)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([1, 1, np.inf, np.nan], np.float32), "endless"),
            numpy_helper.from_array(np.array([1, 1, 0, -1], np.int64), "never"),
        ]
    )
    onnx.save_model(model, path)

    assert [layer.status for layer in analyze(path).layers] == ["partial", "partial", "exact"]


def test_axes_that_are_there_twice_cost_one_row_its_shape(tmp_path: Path) -> None:
    report = _report(tmp_path, node("Unsqueeze", "x m", "y"), node("Relu", "x", "z"))
    assert [layer.status for layer in report.layers] == ["partial", "exact"]
    assert report.layers[0].outputs[0].shape is None


def test_dimensions_that_multiply_without_end_stay_small(tmp_path: Path) -> None:
    nodes = [node("Mul", "big big", "v0")]
    nodes += [node("Mul", f"v{i} v{i}", f"v{i + 1}") for i in range(200)]
    nodes += [node("Tile", "x big", "t"), node("Expand", "x v200", "y")]

    report = _report(tmp_path, *nodes)

    assert all(len(str(layer.outputs[0].shape)) < 2000 for layer in report.layers)


def test_operators_of_one_name_are_told_apart_without_a_search() -> None:
    count = 50_000
    ends = ["x", *(f"t{index}" for index in range(count - 1)), "y"]
    body = [
        helper.make_node("Relu", [source], [target], name="same")
        for source, target in pairwise(ends)
    ]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "F", ["x"], ["y"], body, opsets[:1])
    call = helper.make_node("F", ["a"], ["b"], name="call", domain="own")
    graph = helper.make_graph([call], "g", [], [])

    model = helper.make_model(graph, functions=[function], opset_imports=opsets)
    names = [node.name for node in inline_functions(model).graph.node]

    assert names[:3] == ["call/same", "call/same_2", "call/same_3"]
    assert len(set(names)) == count


def test_loops_in_loops_take_no_time(tmp_path: Path) -> None:
    body = None
    for depth in range(20):
        inner = (
            node("Relu", f"s{depth}", f"o{depth}")
            if body is None
            else helper.make_node("Loop", ["zero", "yes", f"s{depth}"], [f"o{depth}"], body=body)
        )
        body = helper.make_graph(
            [inner, node("Identity", "yes", f"c{depth}")],
            "body",
            [
                helper.make_tensor_value_info(f"i{depth}", TensorProto.INT64, ()),
                helper.make_tensor_value_info(f"b{depth}", TensorProto.BOOL, ()),
                helper.make_tensor_value_info(f"s{depth}", TensorProto.FLOAT, None),
            ],
            [
                helper.make_tensor_value_info(f"c{depth}", TensorProto.BOOL, ()),
                helper.make_tensor_value_info(f"o{depth}", TensorProto.FLOAT, None),
            ],
        )
    report = _report(tmp_path, helper.make_node("Loop", ["zero", "yes", "x"], ["y"], body=body))
    assert report.outputs[0].shape == (1, 3, 8, 8)


def test_a_file_of_tiny_fields_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    # An empty graph, then ir_version = 1 over and over.
    path.write_bytes(b"\x3a\x00" + b"\x08\x01" * 1_000_000)
    with pytest.raises(ModelFileError, match="more than 1,000,000 fields"):
        analyze(path)


def _analysed(path: Path) -> None:
    """Analyse the file: what comes is a report that can be written, or one of our errors."""
    with contextlib.suppress(AnalysisError):
        json.dumps(analyze(path, symbolic=True).to_json())


@pytest.mark.fuzz
@fuzzed(150)
@given(data=st.data())
def test_damaged_bytes_never_crash_the_reader(lenet5: Path, data: st.DataObject) -> None:
    content = bytearray(lenet5.read_bytes())
    # The structure is at the front and the back, and between the payloads.
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 2000))
        change = data.draw(st.binary(max_size=4))
        content[position : position + data.draw(st.integers(0, 4))] = change
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(content)
        _analysed(path)


NAMES = ["x", "w", "m", "ints", "big", "zero", "half", "yes", "ghost", ""]
SIZES = st.integers(-3, 8) | st.sampled_from([0, 2**31 - 1, 2**63 - 1, -(2**63)])
ATTRIBUTES = st.dictionaries(
    st.sampled_from([
        "alpha", "allowzero", "auto_pad", "axes", "axis", "batch_dims", "blocksize", "ceil_mode",
        "dilations", "ends", "equation", "group", "keepdims", "kernel_shape", "kv_num_heads",
        "mode", "num_outputs", "output_padding", "output_shape", "pads", "perm", "q_num_heads",
        "scales", "size", "split", "starts", "strides", "to", "transA", "transB",
    ]),
    st.one_of(
        SIZES,
        st.lists(SIZES, min_size=1, max_size=5),
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        st.sampled_from(["SAME_UPPER", "VALID", "linear", "ij,jk->ik", "...i->i", "->", ",,"]),
    ),
    max_size=4,
)  # fmt: skip
OPERATORS = [*sorted(SHAPE_FUNCTIONS), "LSTM", "NonZero", "Nonsense"]


@pytest.mark.fuzz
@fuzzed(300)
@given(data=st.data())
def test_nonsensical_graphs_never_crash_the_analysis(data: st.DataObject) -> None:
    nodes: list[onnx.NodeProto] = []
    for index in range(data.draw(st.integers(1, 6))):
        made = [name for earlier in nodes for name in earlier.output]
        domain, _, op_type = data.draw(st.sampled_from(OPERATORS)).rpartition("::")
        inputs = data.draw(st.lists(st.sampled_from(NAMES + made), max_size=5))
        outputs = [f"t{index}", f"u{index}"][: data.draw(st.integers(1, 2))]
        attributes: dict[str, Any] = data.draw(ATTRIBUTES)
        nodes.append(helper.make_node(op_type, inputs, outputs, domain=domain, **attributes))
    shape = data.draw(st.lists(SIZES | st.sampled_from(["n", "n-1", "2*n"]), max_size=5))
    with tempfile.TemporaryDirectory() as folder:
        _analysed(_save(Path(folder) / "model.onnx", nodes, shape))


def test_a_picture_smaller_than_a_window_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputSizeError, match="smaller than its window"):
        _report(tmp_path, node("MaxPool", "x", "y", kernel_shape=[9, 9]))
