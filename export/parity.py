"""Does the ONNX graph compute what the network computes? Measured on seeded noise."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convlens.analysis.card import Golden, golden_input, relative_deviation
from convlens.export.errors import ParityError

# onnxruntime reads it when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

BATCH_SIZES = (1, 3)
LIMIT = 1e-4  # of the outputs' spread
_GOLDEN_BATCH = 2
_GOLDEN_SEED = 0
_GOLDEN_TOLERANCE = 1e-3  # wider than LIMIT: other machines and providers add up in other orders
_GOLDEN_DIGITS = 7


@dataclass(frozen=True)
class Parity:
    """The largest differences between PyTorch's and onnxruntime's outputs on a CPU.

    Attributes:
        max_relative: relative to the spread (max - min) of a batch's outputs.
        max_absolute: in the outputs' own unit.
        batch_sizes: of the inputs compared.
        limit: what `max_relative` had to stay within.
        runtime: what the network was compared with.
    """

    max_relative: float
    max_absolute: float
    batch_sizes: tuple[int, ...]
    limit: float
    runtime: str


def check_parity(network: nn.Module, model: bytes, input_shape: tuple[int, ...]) -> Parity:
    """Compare a network with the ONNX model made of it, on standard normal inputs.

    Args:
        network: in evaluation mode.
        model: a serialised ONNX model.
        input_shape: of one picture, without the batch.

    Raises:
        ParityError: an output differs by more than 1e-4 of the outputs' spread, or in its shape.
    """
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    relative = absolute = 0.0
    for batch_size in BATCH_SIZES:
        inputs = golden_input(batch_size, (batch_size, *input_shape))
        expected = torch_outputs(network, inputs)
        (actual,) = session.run(None, {session.get_inputs()[0].name: inputs})
        deviation = relative_deviation(actual, expected)
        if not deviation <= LIMIT:
            raise ParityError(
                f"at batch size {batch_size} the ONNX graph differs from PyTorch by "
                f"{deviation:.1e} of the outputs' spread (limit {LIMIT:.0e})"
            )
        relative = max(relative, deviation)
        absolute = max(absolute, float(np.abs(actual - expected).max()))
    return Parity(relative, absolute, BATCH_SIZES, LIMIT, f"onnxruntime {ort.__version__}, CPU")


def golden(network: nn.Module, input_shape: tuple[int, ...]) -> Golden:
    """What a server has to compute from a seeded batch of two before it is called ready."""
    shape = (_GOLDEN_BATCH, *input_shape)
    outputs = torch_outputs(network, golden_input(_GOLDEN_SEED, shape))
    rows = (tuple(float(f"{value:.{_GOLDEN_DIGITS}g}") for value in row) for row in outputs)
    return Golden(_GOLDEN_SEED, shape, tuple(rows), _GOLDEN_TOLERANCE)


@torch.no_grad()
def torch_outputs(network: nn.Module, inputs: NDArray[np.float32]) -> NDArray[Any]:
    """Run a network: (batch, *input_shape) in, its only output out."""
    outputs: NDArray[Any] = network(torch.from_numpy(inputs)).numpy()
    return outputs
