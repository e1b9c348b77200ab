"""Does the ONNX graph compute what the network computes? Measured on photographs and on noise."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convlens.analysis.card import Golden, golden_input, relative_deviation
from convlens.export.errors import ConversionError, ParityError
from convlens.export.photographs import photograph_input

# onnxruntime reads it when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

BATCH_SIZES = (1, 2, 3, 8)
LIMIT = 1e-4  # of the outputs' spread
GOLDEN_BATCH = 2
GOLDEN_SEED = 0
_GOLDEN_TOLERANCE = 1e-3  # wider than LIMIT: other machines and providers add up in other orders
_GOLDEN_DIGITS = 7


@dataclass(frozen=True)
class Parity:
    """The largest differences between PyTorch's and onnxruntime's outputs on a CPU.

    Attributes:
        max_relative: relative to the spread (max - min) of a batch's outputs.
        max_absolute: in the outputs' own unit.
        top1_agreement: the share of the pictures whose largest output is the same.
        batch_sizes: of the inputs compared, each once of photographs and once of noise.
        limit: what `max_relative` had to stay within.
        runtime: what the network was compared with.
    """

    max_relative: float
    max_absolute: float
    top1_agreement: float
    batch_sizes: tuple[int, ...]
    limit: float
    runtime: str


def check_parity(network: nn.Module, model: bytes, *input_shapes: tuple[int, ...]) -> Parity:
    """Compare a network with the ONNX model made of it, on photographs and standard normal noise.

    Args:
        network: in evaluation mode.
        model: a serialised ONNX model.
        input_shapes: of one picture, without the batch; several where the size is dynamic.

    Raises:
        ParityError: an output differs by more than 1e-4 of the outputs' spread, or in its shape,
            or another class comes first, or the network's own outputs are not finite.
        ConversionError: the network cannot take such pictures, or gives no rows of classes.
    """
    session = open_session(model)
    relative = absolute = 0.0
    for kind, inputs in _trials(input_shapes):
        expected = torch_outputs(network, inputs)
        actual = run(session, inputs)
        if not np.isfinite(expected).all():
            raise ParityError(
                f"{type(network).__name__} itself gives outputs on {kind} that are not finite: "
                "there is nothing to compare with"
            )
        deviation = relative_deviation(actual, expected)
        if not deviation <= LIMIT:
            raise ParityError(
                f"at batch size {len(inputs)}, on {kind}, the ONNX graph differs from PyTorch by "
                f"{deviation:.1e} of the outputs' spread (limit {LIMIT:.0e})"
            )
        if not np.array_equal(actual.argmax(axis=1), expected.argmax(axis=1)):
            raise ParityError(
                f"at batch size {len(inputs)}, on {kind}, the ONNX graph puts another class first "
                "than PyTorch"
            )
        relative = max(relative, deviation)
        absolute = max(absolute, float(np.abs(actual - expected).max()))
    runtime = f"onnxruntime {ort.__version__}, CPU"
    return Parity(relative, absolute, 1.0, BATCH_SIZES, LIMIT, runtime)


def golden(network: nn.Module, input_shape: tuple[int, ...]) -> Golden:
    """What a server has to compute from a seeded batch of two before it is called ready."""
    inputs = golden_input(GOLDEN_SEED, (GOLDEN_BATCH, *input_shape))
    return golden_of(torch_outputs(network, inputs), inputs.shape, _GOLDEN_TOLERANCE)


def golden_of(outputs: NDArray[Any], shape: tuple[int, ...], tolerance: float) -> Golden:
    """State outputs that were computed from the golden input of that shape."""
    rows = (tuple(float(f"{value:.{_GOLDEN_DIGITS}g}") for value in row) for row in outputs)
    return Golden(GOLDEN_SEED, shape, tuple(rows), tolerance)


@torch.no_grad()
def torch_outputs(network: nn.Module, inputs: NDArray[np.float32]) -> NDArray[Any]:
    """Run a network: (batch, *input_shape) in, (batch, classes) out.

    Raises:
        ConversionError: it cannot take such inputs, or gives something else.
    """
    name, size = type(network).__name__, "x".join(map(str, inputs.shape[1:]))
    try:
        outputs = network(torch.from_numpy(inputs))
    # It may be the user's code: whatever it raises is the reason.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConversionError(f"{name} does not take pictures of {size}: {reason}") from error
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
        given = (
            f"a tensor of shape {tuple(outputs.shape)}"
            if isinstance(outputs, torch.Tensor)
            else type(outputs).__name__
        )
        raise ConversionError(
            f"{name} gives {given}: a classifier gives one tensor of (batch, classes)"
        )
    values: NDArray[Any] = outputs.numpy()
    return values


def open_session(model: bytes) -> ort.InferenceSession:
    """A session on the CPU for a serialised model."""
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, inputs: NDArray[Any]) -> NDArray[Any]:
    """The only output of a session with one input."""
    (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs})
    return np.asarray(outputs)


def outputs_of(model: bytes, inputs: NDArray[Any]) -> NDArray[Any]:
    """The only output of a serialised model with one input, computed a few pictures at a time."""
    session = open_session(model)
    starts = range(0, len(inputs), BATCH_SIZES[-1])
    return np.concatenate([run(session, inputs[at : at + BATCH_SIZES[-1]]) for at in starts])


def _trials(input_shapes: tuple[tuple[int, ...], ...]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for shape in input_shapes:
        for batch_size in BATCH_SIZES:
            yield "photographs", photograph_input(batch_size, shape, seed=batch_size)
            yield "noise", golden_input(batch_size, (batch_size, *shape))
