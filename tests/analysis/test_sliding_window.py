import itertools
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from convlens.analysis.sliding_window import SlidingWindow, sliding_windows
from tests.analysis.graphs import Array, weight


@pytest.mark.parametrize(
    ("window", "size", "output"),
    [
        (SlidingWindow(5), 32, 28),
        (SlidingWindow(7, stride=2, pad_begin=3, pad_end=3), 224, 112),
        (SlidingWindow(3, stride=2, pad_begin=1, pad_end=1), 224, 112),
        (SlidingWindow(3, dilation=2, pad_begin=2, pad_end=2), 56, 56),
        (SlidingWindow(2, stride=2), 7, 3),
        (SlidingWindow(2, stride=2, ceil_mode=True), 7, 4),
        (SlidingWindow(3, stride=2, pad_begin=0, pad_end=1), 224, 112),
        (SlidingWindow(5), 3, -1),
    ],
)
def test_the_output_size_is_that_of_the_formula(
    window: SlidingWindow, size: int, output: int
) -> None:
    assert window.output_size(size) == output


def test_a_symbolic_size_gives_no_output_size() -> None:
    assert SlidingWindow(3).output_size("H") is None


@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
def test_a_conv_has_the_output_size_that_onnxruntime_computes(auto_pad: str) -> None:
    for size, kernel, stride, dilation in itertools.product((9, 14), (1, 3, 4), (1, 2, 3), (1, 2)):
        if auto_pad.startswith("SAME") and dilation > 1:
            continue  # onnxruntime refuses the combination
        attributes: dict[str, Any] = {
            "strides": [stride],
            "dilations": [dilation],
            "auto_pad": auto_pad,
        }
        if auto_pad == "NOTSET":
            attributes |= {"pads": [2, 1]}
        kernel_weight = weight(1, 1, kernel)
        windows = sliding_windows("Conv", attributes, (1, 1, size), kernel_weight.shape)
        assert windows is not None
        measured = _run("Conv", size, attributes, kernel_weight)
        assert windows[0].output_size(size) == measured


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
def test_a_pooling_has_the_output_size_that_onnxruntime_computes(op_type: str) -> None:
    paddings: list[dict[str, Any]] = [{"pads": [0, 0]}, {"pads": [1, 1]}, {"auto_pad": "VALID"}]
    for size, kernel, stride, padding in itertools.product(
        range(2, 13), (2, 3), (1, 2, 3), paddings
    ):
        attributes = {"kernel_shape": [kernel], "strides": [stride], "ceil_mode": 1, **padding}
        windows = sliding_windows(op_type, attributes, (1, 1, size), None)
        assert windows is not None
        assert windows[0].output_size(size) == _run(op_type, size, attributes, None)


def test_same_lower_pads_more_before_than_after() -> None:
    lower = sliding_windows("Conv", {"auto_pad": "SAME_LOWER"}, (1, 1, 8), (1, 1, 4))
    upper = sliding_windows("Conv", {"auto_pad": "SAME_UPPER"}, (1, 1, 8), (1, 1, 4))
    assert lower is not None
    assert upper is not None
    assert (lower[0].pad_begin, lower[0].pad_end) == (2, 1)
    assert (upper[0].pad_begin, upper[0].pad_end) == (1, 2)


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": (0, 3)},
        {"kernel_shape": (3, 3), "strides": (0, 1)},
        {"kernel_shape": (3, 3), "strides": (1,)},
        {"kernel_shape": (3, 3), "pads": (1, 1)},
        {"kernel_shape": (3,)},
        {},
    ],
)
def test_attributes_that_contradict_each_other_give_no_window(
    attributes: dict[str, tuple[int, ...]],
) -> None:
    assert sliding_windows("MaxPool", attributes, (1, 1, 8, 8), None) is None


def _run(op_type: str, size: int, attributes: dict[str, Any], kernel: Array | None) -> int:
    inputs = ["x"] if kernel is None else ["x", "w"]
    graph = helper.make_graph(
        [helper.make_node(op_type, inputs, ["y"], **attributes)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [] if kernel is None else [numpy_helper.from_array(kernel, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"x": weight(1, 1, size)})
    return int(np.asarray(output).shape[-1])
