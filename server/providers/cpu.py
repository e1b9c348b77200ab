"""onnxruntime's own CPU provider: it is always there, and computes in fp32."""

import logging
import shutil
from pathlib import Path

import onnxruntime as ort

from convlens.server.memory import give_back_memory
from convlens.server.plan import Machine, Plan
from convlens.server.providers.cache import cache_folder, cached_folder
from convlens.server.providers.elastic import ElasticSession
from convlens.server.providers.runtime import RUNTIME_ERRORS, ModelSource, Provider, Session

logger = logging.getLogger(__name__)

# Smaller ones are optimised faster than a file is found.
CACHED_FROM_BYTES = 1_000_000
OPTIMISED, WEIGHTS = "model.onnx", "weights.bin"


def open_cpu(source: ModelSource, plan: Plan, machine: Machine) -> Session:
    """Open a model.

    What the optimiser makes of a large one is kept, its weights in a file of their own, in the
    order in which the kernels read them. They are mapped into memory: opening takes milliseconds,
    and sessions, also of other processes, share them. So it is with any whose weights lie in files
    of their own: these would be mapped, too, and whoever overwrites a mapped file ends the process.
    """
    is_small = source.size_bytes < CACHED_FROM_BYTES
    if machine.cache is not None and (source.weights or not is_small):
        folder = cache_folder(machine.cache, "cpu", source.sha256, ort.__version__)
        if folder is not None:
            try:
                kept = cached_folder(folder, "optimised", lambda to: _optimise(source, to))
                return _open_plan(kept / OPTIMISED, plan, machine, optimise=False)
            except RUNTIME_ERRORS as error:
                logger.warning("the cache in %s is not used: %s", folder, error)
                # The whole of it, or the next start would take the rest for a kept model.
                shutil.rmtree(folder / "optimised", ignore_errors=True)
    if plan.elastic and not is_small:
        # Each session would hold the weights. One whose threads are shared is almost as fast.
        return _open(source.path, plan.processors, optimise=True)
    return _open_plan(source.path, plan, machine, optimise=True)


def _open_plan(path: Path, plan: Plan, machine: Machine, *, optimise: bool) -> Session:
    """Open as many sessions as a plan needs."""
    if not plan.elastic:
        return _open(path, _pool(plan.threads, plan.instances), optimise=optimise)
    sessions = {
        width: _open(path, _pool(width, plan.processors // width), optimise=optimise)
        for width in plan.widths
    }
    return ElasticSession(sessions, machine.runs)


def _pool(threads: int, runs: int) -> int:
    """The threads of a session: a run's own works too, n runs at a time need n * (threads - 1)."""
    return runs * (threads - 1) + 1


def _options(threads: int) -> "ort.SessionOptions":
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; they come as exceptions with the same text
    # Threads that spin for work take the processors away from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _optimise(source: ModelSource, folder: Path) -> None:
    options = _options(threads=1)
    options.optimized_model_filepath = str(folder / OPTIMISED)
    for key, value in {
        "session.optimized_model_external_initializers_file_name": WEIGHTS,
        "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
        # Those that matrix products want packed: packed, too.
        "session.save_external_prepacked_constant_initializers": "1",
    }.items():
        options.add_session_config_entry(key, value)
    ort.InferenceSession(source.path, options, providers=["CPUExecutionProvider"])
    if ModelSource.read(source.path) != source:
        raise RuntimeError(f"{source.path} changed while it was read")  # not to be kept as it was
    give_back_memory()  # what it took is several times what the kept model will take


def _open(path: Path, threads: int, *, optimise: bool) -> Session:
    options = _options(threads)
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session: Session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session


CPU = Provider("cpu", ("fp32",), lambda: None, open_cpu)
