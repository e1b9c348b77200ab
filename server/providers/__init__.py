"""What computes: onnxruntime on the CPU, OpenVINO, CUDA, TensorRT, behind one interface."""

import logging
from collections.abc import Mapping

from convlens.server.errors import ModelLoadError, StartError
from convlens.server.plan import Machine, Plan
from convlens.server.providers.cpu import CPU
from convlens.server.providers.nvidia import CUDA, TENSORRT
from convlens.server.providers.openvino import OPENVINO
from convlens.server.providers.runtime import (
    RUNTIME_ERRORS,
    ModelSource,
    Node,
    Provider,
    Session,
)

__all__ = [
    "PROVIDERS",
    "RUNTIME_ERRORS",
    "ModelSource",
    "Node",
    "Provider",
    "Session",
    "choose_provider",
    "open_session",
]

logger = logging.getLogger(__name__)

PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider for provider in (CPU, OPENVINO, CUDA, TENSORRT)
}


def choose_provider(wanted: str) -> str:
    """Decide what runs the models that were not tuned.

    Args:
        wanted: a key of `PROVIDERS`, or "auto": CUDA where it works, else the CPU.

    Raises:
        StartError: the provider that was asked for does not work here. There is no silent fall
            back.
    """
    if wanted != "auto":
        reason = PROVIDERS[wanted].why_not()
        if reason is None:
            return wanted
        raise StartError(f"--provider {wanted}: {reason}")
    reason = CUDA.why_not()
    if reason is None:
        logger.info("--provider auto: cuda, which works here")
        return "cuda"
    logger.info(
        "--provider auto: cpu, since CUDA is out: %s. `convlens tune` measures what is faster",
        reason,
    )
    return "cpu"


def open_session(source: ModelSource, plan: Plan, machine: Machine) -> Session:
    """Open a model.

    Raises:
        ModelLoadError: the file is broken, or the provider cannot run it in that precision.
    """
    provider = PROVIDERS[plan.provider]
    if plan.precision not in provider.precisions:
        raise ModelLoadError(
            f"{provider.name} computes in {', '.join(provider.precisions)}, not {plan.precision}"
        )
    try:
        return provider.open(source, plan, machine)
    except RUNTIME_ERRORS as error:
        reason = " ".join(str(error).split())  # OpenVINO's have many lines
        raise ModelLoadError(f"{provider.name} cannot load it: {reason}") from error
