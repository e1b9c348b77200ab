"""The runtime that `analyze --verify` compares with: onnxruntime on the CPU."""

import onnxruntime as ort

from convlens.analysis.measurement import Session

_FATAL = 4


def open_session(model: bytes) -> Session:
    """Open a serialised model, unoptimised: an inner tensor that is asked for must not vanish."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Many small runs: waking threads up takes longer than the work itself.
    options.intra_op_num_threads = 1
    options.log_severity_level = _FATAL
    session: Session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session
