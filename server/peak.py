"""What the machine can do at most: the rate of one large matrix product."""

import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from convlens.server.plan import Machine, Plan
from convlens.server.providers import ModelSource, open_session

SIDE = 1024
RUNS = 5


def measure_peak(plan: Plan) -> float:
    """The fastest of some products of two `SIDE` x `SIDE` matrices, one of them constant.

    Returns:
        Floating-point operations a second; 1 MAC = 2 FLOPs.

    Raises:
        ModelLoadError: the plan's provider cannot run it.
    """
    values = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "product.onnx"
        onnx.save(_product(values), path)
        session = open_session(ModelSource.read(path), plan, Machine())
        session.run(None, {"left": values})
        seconds = []
        for _ in range(RUNS):
            start = time.perf_counter()
            session.run(None, {"left": values})
            seconds.append(time.perf_counter() - start)
    return float(2 * SIDE**3 / min(seconds))


def _product(right: "np.ndarray[tuple[int, int], np.dtype[np.float32]]") -> onnx.ModelProto:
    square = [helper.make_tensor_value_info(name, TensorProto.FLOAT, right.shape) for name in "io"]
    square[0].name, square[1].name = "left", "product"
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["left", "right"], ["product"])],
        "peak",
        square[:1],
        square[1:],
        [numpy_helper.from_array(right, "right")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
