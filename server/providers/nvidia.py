"""NVIDIA GPUs: onnxruntime's CUDA provider, and TensorRT in front of it.

Options: https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html and
https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort

from convlens.server.plan import Gpu, Machine, Plan
from convlens.server.providers.cache import cache_folder
from convlens.server.providers.runtime import (
    RUNTIME_ERRORS,
    Array,
    ModelSource,
    Node,
    Provider,
    Session,
)

CUDA_NAME, TENSORRT_NAME = "CUDAExecutionProvider", "TensorrtExecutionProvider"


# Recorded runs keep their memory on the device. What has more shapes than this, as pictures of any
# size have, is run without being recorded.
MAX_RECORDED = 32
UNRECORDED = "-1"  # onnxruntime's word for it


@dataclass(frozen=True)
class _Bound:
    """Device memory for the inputs of one shape, and what runs them."""

    binding: Any
    buffers: dict[str, Any]
    options: Any


class GraphedSession:
    """Runs of which CUDA records one a shape, and replays it: the launches cost one call.

    A recorded run reads and writes the same device memory each time, so that runs take turns.

    Args:
        session: an `onnxruntime.InferenceSession` with `enable_cuda_graph`.
        device: its number.
        kind: of device, as onnxruntime calls it.
    """

    def __init__(self, session: Any, device: int, kind: str = "cuda") -> None:
        self._session = session
        self._device = device
        self._kind = kind
        self._recorded: dict[tuple[tuple[int, ...], ...], _Bound] = {}
        self._turn = threading.Lock()

    def get_inputs(self) -> Sequence[Node]:
        """In the graph's order."""
        nodes: Sequence[Node] = self._session.get_inputs()
        return nodes

    def get_outputs(self) -> Sequence[Node]:
        """In the graph's order."""
        nodes: Sequence[Node] = self._session.get_outputs()
        return nodes

    def run(self, output_names: None, input_feed: Mapping[str, Array]) -> Sequence[Array]:  # noqa: ARG002
        """All outputs, in the graph's order, for inputs by name."""
        feed = {name: np.asarray(array, order="C") for name, array in input_feed.items()}
        shapes = tuple(array.shape for array in feed.values())
        with self._turn:
            bound = self._recorded.get(shapes)
            if bound is not None:
                for name, array in feed.items():
                    bound.buffers[name].update_inplace(array)
            elif len(self._recorded) < MAX_RECORDED:
                bound = self._bind(feed, graph=str(len(self._recorded) + 1))
                self._recorded[shapes] = bound
            else:
                bound = self._bind(feed, graph=UNRECORDED)
            self._session.run_with_iobinding(bound.binding, bound.options)
            # The next run writes where this one did.
            return [output.numpy().copy() for output in bound.binding.get_outputs()]

    def _bind(self, feed: Mapping[str, Array], graph: str) -> _Bound:
        """Copy inputs to the device; outputs get memory there in the first run."""
        binding = self._session.io_binding()
        buffers = {
            name: ort.OrtValue.ortvalue_from_numpy(array.copy(), self._kind, self._device)
            for name, array in feed.items()
        }
        for name, buffer in buffers.items():
            binding.bind_ortvalue_input(name, buffer)
        for node in self._session.get_outputs():
            binding.bind_output(node.name, self._kind, self._device)
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", graph)
        return _Bound(binding, buffers, options)


def why_not(name: str) -> str | None:
    """Try a provider on a graph of one node: that it is compiled in says nothing of the GPU."""
    if name not in ort.get_available_providers():
        return f"this onnxruntime has no {name}: pip install 'convlens[serve-gpu]'"
    import onnx.parser  # only needed here

    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> probe (float[1] x) => (float[1] y) { y = Relu(x) }'
    )
    try:
        ort.preload_dlls()  # CUDA and cuDNN from their pip packages
        session = ort.InferenceSession(graph.SerializeToString(), providers=[name])
    except OSError as error:
        return f"its libraries cannot be loaded: {error}"
    except RUNTIME_ERRORS as error:
        return f"it cannot start: {error}"
    if session.get_providers()[0] != name:
        return "it did not start; onnxruntime's own message stands above. Is there an NVIDIA GPU?"
    return None


def open_cuda(source: ModelSource, plan: Plan, machine: Machine) -> Session:  # noqa: ARG001
    """Open a session on the GPU."""
    session = _open(source, [(CUDA_NAME, cuda_options(machine.gpu))])
    return GraphedSession(session, machine.gpu.device) if machine.gpu.graphs else session


def open_tensorrt(source: ModelSource, plan: Plan, machine: Machine) -> Session:
    """Open a session with TensorRT; what it cannot run, CUDA runs. Engines are kept."""
    options = {"device_id": str(machine.gpu.device), "trt_fp16_enable": _flag(plan.precision)}
    if machine.cache is not None:
        folder = cache_folder(machine.cache, "tensorrt", source.sha256, ort.__version__)
        if folder is not None:
            for kind in ("engine", "timing"):
                options[f"trt_{kind}_cache_enable"] = "1"
                options[f"trt_{kind}_cache_path"] = str(folder)
    # onnxruntime records a graph only where one provider has all of it.
    fall_back = cuda_options(replace(machine.gpu, graphs=False))
    return _open(source, [(TENSORRT_NAME, options), (CUDA_NAME, fall_back)])


def cuda_options(gpu: Gpu) -> dict[str, str]:
    """The CUDA provider's options, in its own words."""
    options = {
        "device_id": str(gpu.device),
        "use_tf32": str(int(gpu.tf32)),
        "cudnn_conv_algo_search": gpu.convolution_search.upper(),
        "enable_cuda_graph": str(int(gpu.graphs)),
    }
    if gpu.memory_bytes:
        # The default strategy doubles what it asks for, and would hit the bound early.
        options["arena_extend_strategy"] = "kSameAsRequested"
        options["gpu_mem_limit"] = str(gpu.memory_bytes)
    return options


def _open(source: ModelSource, providers: list[tuple[str, dict[str, str]]]) -> Session:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(source.path, options, providers=providers)
    if session.get_providers()[0] != providers[0][0]:
        raise RuntimeError(f"{providers[0][0]} did not start: {session.get_providers()} did")
    opened: Session = session
    return opened


def _flag(precision: str) -> str:
    return str(int(precision == "fp16"))


CUDA = Provider("cuda", ("fp32",), partial(why_not, CUDA_NAME), open_cuda)
TENSORRT = Provider("tensorrt", ("fp32", "fp16"), partial(why_not, TENSORRT_NAME), open_tensorrt)
