"""An onnxruntime session, with the provider that was asked for or an error."""

import os
from pathlib import Path
from typing import Any

from convlens.server.errors import ModelLoadError, StartError
from convlens.server.settings import Provider

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported

import onnx.parser
import onnxruntime as ort

EXECUTION_PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}

# What onnxruntime raises where a model cannot be loaded or run: one class a status code.
RUNTIME_ERRORS: tuple[type[Exception], ...] = tuple(
    member
    for member in vars(ort.capi.onnxruntime_pybind11_state).values()
    if isinstance(member, type) and issubclass(member, Exception)
)


def choose_provider(wanted: Provider) -> str:
    """Decide what runs the models.

    Returns:
        A key of `EXECUTION_PROVIDERS`: the one wanted, or for "auto" CUDA where it works.

    Raises:
        StartError: the provider that was asked for is not there. There is no silent fall back.
    """
    if wanted == "cpu":
        return wanted
    reason = _why_not_cuda()
    if reason is None:
        return "cuda"
    if wanted == "auto":
        return "cpu"
    raise StartError(f"--provider cuda: {reason}")


def _why_not_cuda() -> str | None:
    """Try CUDA on a graph of one node: that it is compiled in says nothing of GPU and driver."""
    wanted = EXECUTION_PROVIDERS["cuda"]
    if wanted not in ort.get_available_providers():
        return "this onnxruntime has no CUDA provider: pip install 'convlens[serve-gpu]'"
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> probe (float[1] x) => (float[1] y) { y = Relu(x) }'
    )
    try:
        ort.preload_dlls()  # CUDA and cuDNN from their pip packages
        session = ort.InferenceSession(graph.SerializeToString(), providers=[wanted])
    except OSError as error:
        return f"its libraries cannot be loaded: {error}"
    except RUNTIME_ERRORS as error:
        return f"it cannot start: {error}"
    if session.get_providers()[0] != wanted:
        return "it did not start; onnxruntime's own message stands above. Is there an NVIDIA GPU?"
    return None


def open_session(path: Path, provider: str, threads: int) -> Any:
    """Open an onnxruntime session.

    Args:
        path: of the model.
        provider: a key of `EXECUTION_PROVIDERS`.
        threads: that one inference on the CPU is spread over.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        ModelLoadError: the file is broken, or the provider cannot run it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; they come as exceptions with the same text
    wanted = EXECUTION_PROVIDERS[provider]
    try:
        session = ort.InferenceSession(path, options, providers=[wanted])
    except RUNTIME_ERRORS as error:
        raise ModelLoadError(f"onnxruntime cannot load it: {error}") from error
    if session.get_providers()[0] != wanted:
        raise ModelLoadError(
            f"{wanted} did not start; onnxruntime offers {session.get_providers()}"
        )
    return session
