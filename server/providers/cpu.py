"""onnxruntime's own CPU provider: it is always there, and computes in fp32."""

import logging
from pathlib import Path

import onnxruntime as ort

from convlens.server.plan import Machine, Plan
from convlens.server.providers.cache import cache_folder, cached_file
from convlens.server.providers.runtime import RUNTIME_ERRORS, ModelSource, Provider, Session

logger = logging.getLogger(__name__)

# Smaller ones are optimised faster than a file is found.
CACHED_FROM_BYTES = 1_000_000


def open_cpu(source: ModelSource, plan: Plan, machine: Machine) -> Session:
    """Open a session whose threads are shared by the plan's instances.

    What the optimiser makes of a large model is kept: opening that takes less time, and half the
    memory, since the tensors that it replaced are never read.
    """
    options = _options(plan)
    if machine.cache is not None and source.path.stat().st_size >= CACHED_FROM_BYTES:
        folder = cache_folder(machine.cache, "cpu", source.sha256, ort.__version__)
        if folder is not None:
            try:
                optimised = cached_file(folder, "model.onnx", lambda to: _optimise(source, to))
                options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
                return _open(optimised, options)
            except RUNTIME_ERRORS as error:
                logger.warning("the cache in %s is not used: %s", folder, error)
                (folder / "model.onnx").unlink(missing_ok=True)
                options = _options(plan)
    return _open(source.path, options)


def _options(plan: Plan) -> "ort.SessionOptions":
    options = ort.SessionOptions()
    # A run's own thread works too: n runs at a time need n * (threads - 1) more.
    options.intra_op_num_threads = plan.instances * (plan.threads - 1) + 1
    options.log_severity_level = 3  # errors; they come as exceptions with the same text
    # Threads that spin for work take the processors away from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _optimise(source: ModelSource, path: Path) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    _open(source.path, options)


def _open(path: Path, options: "ort.SessionOptions") -> Session:
    session: Session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session


CPU = Provider("cpu", ("fp32",), lambda: None, open_cpu)
