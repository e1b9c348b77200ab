"""What the machine can do at most: the rate of one large matrix product."""

import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from convlens.server.plan import PROCESSOR_PROVIDERS, Machine, Plan
from convlens.server.providers import ModelSource, open_session

SIDE = 1024
RUNS = 20


def measure_peak(plan: Plan, *, int8: bool = False) -> float:
    """The fastest of some products of two `SIDE` x `SIDE` matrices, one of them constant.

    On processors one thread is measured, in processor time, and multiplied by their number: what
    other programs take of them does not count, nor what threads would wait for each other.

    Args:
        plan: which provider, in which precision, on how many processors.
        int8: whether the matrices are quantised, activations to uint8 and weights to int8.

    Returns:
        Operations a second; 1 MAC = 2 of them.

    Raises:
        ModelLoadError: the plan's provider cannot run it.
    """
    values = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    on_processors = plan.provider in PROCESSOR_PROVIDERS
    clock = time.process_time if on_processors else time.perf_counter
    single = Plan(plan.provider, plan.precision)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "product.onnx"
        onnx.save(_quantised(values) if int8 else _product(values), path)
        session = open_session(ModelSource.read(path), single, Machine())
        session.run(None, {"left": values})
        seconds = []
        for _ in range(RUNS):
            start = clock()
            session.run(None, {"left": values})
            seconds.append(clock() - start)
    return 2 * SIDE**3 / min(seconds) * (plan.processors if on_processors else 1)


Matrix = np.ndarray[tuple[int, int], np.dtype[np.float32]]


def _product(right: Matrix) -> onnx.ModelProto:
    node = helper.make_node("MatMul", ["left", "right"], ["product"])
    return _model([node], [numpy_helper.from_array(right, "right")])


def _quantised(right: Matrix) -> onnx.ModelProto:
    """The same with quantisation written around it, as files in int8 have it."""
    scale = np.float32(0.05)
    constants = {
        "right": np.clip(right / scale, -127, 127).astype(np.int8),
        "scale": scale,
        "middle": np.uint8(128),
        "zero": np.int8(0),
        "wide": np.float32(np.sqrt(SIDE) * scale),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["left", "scale", "middle"], ["left8"]),
        helper.make_node("DequantizeLinear", ["left8", "scale", "middle"], ["left32"]),
        helper.make_node("DequantizeLinear", ["right", "scale", "zero"], ["right32"]),
        helper.make_node("MatMul", ["left32", "right32"], ["exact"]),
        helper.make_node("QuantizeLinear", ["exact", "wide", "middle"], ["exact8"]),
        helper.make_node("DequantizeLinear", ["exact8", "wide", "middle"], ["product"]),
    ]
    return _model(nodes, [numpy_helper.from_array(np.array(v), k) for k, v in constants.items()])


def _model(nodes: list[NodeProto], constants: list[TensorProto]) -> onnx.ModelProto:
    left, product = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (SIDE, SIDE))
        for name in ("left", "product")
    )
    graph = helper.make_graph(nodes, "peak", [left], [product], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
