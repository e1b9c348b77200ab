"""OpenVINO, by its own package.

onnxruntime's plugin for it offers no device on processors of other makers than Intel
(https://github.com/microsoft/onnxruntime/pull/31981); the package itself runs on them too.
"""

import contextlib
import importlib
import json
import queue
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.analysis.model_file import read_model
from convlens.server.plan import Machine, Plan, Precision
from convlens.server.providers.cache import alone_in, cache_folder
from convlens.server.providers.runtime import Array, ModelSource, Node, Provider, Session

if TYPE_CHECKING:
    from onnx import ValueInfoProto

HINTS: Mapping[Precision, str] = {"fp32": "f32", "bf16": "bf16"}
# A model that is compiled for each concurrent run anew runs in the thread that asks. One that is
# compiled for all of them hands each run to a thread of OpenVINO's own, and processors are idle
# while the two change places (`bench/streams.py`). But each holds the weights: up to so many bytes.
_MAX_COPIED_BYTES = 512 * 2**20


@dataclass(frozen=True)
class DeclaredNode:
    """An input or output as the file declares it: OpenVINO forgets the names of axes."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


class OpenVinoSession:
    """A model with one request object a concurrent run.

    Args:
        requests: each an `openvino.InferRequest`.
        inputs: of the graph.
        outputs: of the graph.
    """

    def __init__(
        self, requests: Iterable[Any], inputs: Sequence[Node], outputs: Sequence[Node]
    ) -> None:
        self._inputs, self._outputs = inputs, outputs
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for request in requests:
            self._requests.put(request)

    def get_inputs(self) -> Sequence[Node]:
        """In the graph's order."""
        return self._inputs

    def get_outputs(self) -> Sequence[Node]:
        """In the graph's order."""
        return self._outputs

    def run(self, output_names: None, input_feed: Mapping[str, Array]) -> Sequence[Array]:  # noqa: ARG002
        """All outputs, in the graph's order, for inputs by name."""
        request = self._requests.get()
        try:
            feed = {name: np.asarray(array, order="C") for name, array in input_feed.items()}
            request.infer(feed, share_inputs=True)
            # The request's next run writes where this one did.
            return [request.get_output_tensor(i).data.copy() for i in range(len(self._outputs))]
        finally:
            self._requests.put(request)


def copies(weight_bytes: int, plan: Plan) -> int:
    """How often a model with so many bytes of weights is compiled."""
    return plan.instances if plan.instances * weight_bytes <= _MAX_COPIED_BYTES else 1


def why_not_openvino() -> str | None:
    """Try OpenVINO: that it is installed says nothing of the processor."""
    try:
        openvino = _import_openvino()
    except ImportError as error:
        return f"{error}: pip install 'convlens[openvino]'"
    try:
        devices = openvino.Core().available_devices
    except RuntimeError as error:
        return f"it cannot start: {error}"
    return None if "CPU" in devices else f"it has no CPU device here, only {devices}"


def open_openvino(source: ModelSource, plan: Plan, machine: Machine) -> Session:
    """Compile a model for the CPU; compiled ones are kept."""
    openvino = _import_openvino()
    core = openvino.Core()
    if plan.precision == "bf16" and "BF16" not in core.get_property(
        "CPU", "OPTIMIZATION_CAPABILITIES"
    ):
        raise RuntimeError("this processor does not compute in bf16")
    count = copies(source.size_bytes, plan)
    streams = plan.instances // count
    options: dict[str, Any] = {
        # OpenVINO takes bf16 by itself where the processor has it: the precision is ours to say.
        "INFERENCE_PRECISION_HINT": HINTS[plan.precision],
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams * plan.threads,
        # Pinned, every process of a machine begins at the same core.
        "ENABLE_CPU_PINNING": False,
        # Whoever overwrites a mapped file ends the process.
        "ENABLE_MMAP": not source.weights,
    }
    inputs, outputs = _declared(source.path)
    folder = None
    if machine.cache is not None:
        key = ("openvino", source.sha256, openvino.get_version(), json.dumps(options))
        folder = cache_folder(machine.cache, *key)
    with contextlib.ExitStack() as stack:
        if folder is not None:
            options["CACHE_DIR"] = str(folder)  # written and checked by OpenVINO
            # Which reads, and deletes as broken, what another process has written half.
            stack.enter_context(alone_in(folder))
        models = [core.compile_model(str(source.path), "CPU", options) for _ in range(count)]
    requests = (model.create_infer_request() for model in models for _ in range(streams))
    return OpenVinoSession(requests, inputs, outputs)


def _import_openvino() -> Any:
    """Import OpenVINO without its tools for conversion.

    They report each import to their makers, and take twice as long as the rest.
    """
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def _declared(path: Path) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """The graph's inputs and outputs, without reading its weights."""
    graph = read_model(path).proto.graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_node(value) for value in graph.input if value.name not in stored)
    return inputs, tuple(_node(value) for value in graph.output)


def _node(value: "ValueInfoProto") -> DeclaredNode:
    from onnx import TensorProto  # only needed here, and it takes a while

    tensor = value.type.tensor_type
    name = TensorProto.DataType.Name(tensor.elem_type).lower()
    shape = tuple(
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or None
        for axis in tensor.shape.dim
    )
    return DeclaredNode(value.name, f"tensor({name})", shape)


OPENVINO = Provider("openvino", ("fp32", "bf16"), why_not_openvino, open_openvino)
