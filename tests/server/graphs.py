"""Models of tensors, as anybody may write them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

Shape = Sequence[int | str | None]


def save_graph(
    path: Path,
    nodes: Sequence[Any],
    inputs: dict[str, tuple[int, Shape]],
    outputs: dict[str, tuple[int, Shape]],
    weights: dict[str, Any] | None = None,
) -> Path:
    """Write a model without a card; tensors are given as (TensorProto type, shape)."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def move_weights(path: Path) -> Path:
    """Move a model's floats into a file beside it, `NAME.onnx.data`; returns that one."""
    apart = path.with_name(f"{path.name}.data")
    apart.unlink(missing_ok=True)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            set_external_data(tensor, location=apart.name)
    onnx.save(model, path)
    return apart


def save_two_inputs(path: Path) -> Path:
    """Adds `left` and `right` and multiplies them: two inputs, two outputs, a named batch."""
    row: tuple[int, Shape] = (TensorProto.FLOAT, ("batch", 3))
    nodes = [
        helper.make_node("Add", ["left", "right"], ["sum"]),
        helper.make_node("Mul", ["left", "right"], ["product"]),
    ]
    return save_graph(path, nodes, {"left": row, "right": row}, {"sum": row, "product": row})


def save_embedding(path: Path) -> Path:
    """Looks up rows by int64 `ids` (0 to 3), whose number a row is free: [batch, n] of them."""
    return save_graph(
        path,
        [helper.make_node("Gather", ["table", "ids"], ["rows"])],
        {"ids": (TensorProto.INT64, ("batch", "n"))},
        {"rows": (TensorProto.FLOAT, ("batch", "n", 2))},
        {"table": np.arange(8, dtype=np.float32).reshape(4, 2)},
    )


def save_types(path: Path) -> Path:
    """Gives every input back under another name: one of each datatype, shapes without a batch."""
    types = {
        "bool": TensorProto.BOOL,
        "uint8": TensorProto.UINT8,
        "uint16": TensorProto.UINT16,
        "uint32": TensorProto.UINT32,
        "uint64": TensorProto.UINT64,
        "int8": TensorProto.INT8,
        "int16": TensorProto.INT16,
        "int32": TensorProto.INT32,
        "int64": TensorProto.INT64,
        "fp16": TensorProto.FLOAT16,
        "fp32": TensorProto.FLOAT,
        "fp64": TensorProto.DOUBLE,
        "bytes": TensorProto.STRING,
    }
    return save_graph(
        path,
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in types],
        {name: (kind, (2,)) for name, kind in types.items()},
        {f"{name}_out": (kind, (2,)) for name, kind in types.items()},
    )


def save_total(path: Path) -> Path:
    """Sums everything up into one number: its answer has no batch axis."""
    return save_graph(
        path,
        [helper.make_node("ReduceSum", ["values"], ["total"], keepdims=0)],
        {"values": (TensorProto.FLOAT, ("batch", 2))},
        {"total": (TensorProto.FLOAT, ())},
    )


def save_liar(path: Path) -> Path:
    """Declares a batch axis and answers one row, whatever it is given."""
    return save_graph(
        path,
        [helper.make_node("ReduceSum", ["values", "axis"], ["sums"], keepdims=1)],
        {"values": (TensorProto.FLOAT, ("batch", 2))},
        {"sums": (TensorProto.FLOAT, ("batch", 2))},
        {"axis": np.array([0], np.int64)},
    )


def save_zeros_fail(path: Path) -> Path:
    """Looks up row `id` - 10 of a table of one row: it runs, but not on zeros."""
    return save_graph(
        path,
        [
            helper.make_node("Sub", ["id", "ten"], ["index"]),
            helper.make_node("Gather", ["table", "index"], ["row"]),
        ],
        {"id": (TensorProto.INT64, (1,))},
        {"row": (TensorProto.FLOAT, (1, 2))},
        {"ten": np.array([10], np.int64), "table": np.array([[1, 2]], np.float32)},
    )


def save_slow_to_load(path: Path) -> Path:
    """Scales its input, once the runtime has multiplied large constants for a minute or more."""
    size = 2500
    filled = numpy_helper.from_array(np.full(1, 1 / size, np.float32))
    nodes = [helper.make_node("ConstantOfShape", ["size"], ["m0"], value=filled)]
    nodes += [helper.make_node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(200)]
    nodes += [
        helper.make_node("ReduceSum", ["m200"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["values", "sum"], ["scaled"]),
    ]
    row: tuple[int, Shape] = (TensorProto.FLOAT, ("batch", 2))
    return save_graph(
        path, nodes, {"values": row}, {"scaled": row}, {"size": np.array([size, size])}
    )
