"""Small ONNX files that the tests of the analysis share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]


def weight(*shape: int, value: float = 1.0) -> Array:
    """A float32 tensor of one value."""
    return np.full(shape, value, dtype=np.float32)


def save_graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    initializers: Mapping[str, Array],
    input_shape: Sequence[int | str] = ("batch", 1, 32, 32),
    outputs: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    opset: int = 20,
) -> Path:
    """Write a checked model with one float32 input, "x", and the last node's output."""
    names = outputs or (nodes[-1].output[0],)
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [numpy_helper.from_array(values, name) for name, values in initializers.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=11 if opset > 22 else 10
    )
    helper.set_model_props(model, dict(metadata or {}))
    # The checker wants output types; the analysis must do without.
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(model))
    onnx.save_model(model, path)
    return path


def node(op_type: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """A node named after its output; `inputs` are separated by blanks."""
    return helper.make_node(op_type, inputs.split(), [output], name=output, **attributes)


def save_lenet5(path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """LeNet-5 with the weights of its usual form, its third convolution a Conv."""
    nodes = [
        node("Conv", "x w1 b1", "conv1"),
        node("Relu", "conv1", "relu1"),
        node("MaxPool", "relu1", "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "pool1 w2 b2", "conv2"),
        node("Relu", "conv2", "relu2"),
        node("MaxPool", "relu2", "pool2", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "pool2 w3 b3", "conv3"),
        node("Relu", "conv3", "relu3"),
        node("Flatten", "relu3", "flatten"),
        node("Gemm", "flatten w4 b4", "fc1", transB=1),
        node("Relu", "fc1", "relu4"),
        node("Gemm", "relu4 w5 b5", "fc2", transB=1),
    ]
    initializers = {
        "w1": weight(6, 1, 5, 5),
        "b1": weight(6),
        "w2": weight(16, 6, 5, 5),
        "b2": weight(16),
        "w3": weight(120, 16, 5, 5),
        "b3": weight(120),
        "w4": weight(84, 120),
        "b4": weight(84),
        "w5": weight(10, 84),
        "b5": weight(10),
    }
    return save_graph(path, nodes, initializers, metadata=metadata)


def save_wrong_shape(path: Path) -> Path:
    """Write a model whose output is not of the shape that the file states.

    How many values are not zero is known to the file alone, so that nothing contradicts it.
    """
    graph = "m (float[1, 1, 6, 8] x) => (int64[4, 47] y) { y = NonZero(x) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {graph}')
    onnx.save_model(model, path)
    return path
