"""The same network in fewer bits: converted, compared with its fp32 twin, refused where it differs.

What is measured is measured on pictures that calibration has not seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from convlens.analysis.card import Golden, Preprocessing, golden_input, relative_deviation
from convlens.export.errors import PrecisionError
from convlens.export.half import to_fp16
from convlens.export.parity import GOLDEN_BATCH, GOLDEN_SEED, golden_of, open_session, run
from convlens.export.quantisation import Quantiser
from convlens.export.trial_pictures import trial_pictures

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DEFAULT_MIN_AGREEMENT = 0.99
_BATCH_SIZE = 8
_MOST_KEPT = 0.5  # of the layers: with more of them in fp32, a file is hardly an int8 one
# Of the outputs' spread: rounding to fewer bits turns another order of additions into larger steps.
_GOLDEN_TOLERANCES = {"fp16": 1e-2, "int8": 2e-2}

Inputs = NDArray[np.float32]


@dataclass(frozen=True)
class PrecisionOptions:
    """In how many bits the weights and the values between layers are kept.

    Attributes:
        precision: "fp32", "fp16" or "int8".
        calibration: a folder of pictures for int8; None takes ones that convlens brings along.
        min_agreement: the smallest share of pictures on which fp32 and the file must put the same
            class first.
    """

    precision: Precision = "fp32"
    calibration: Path | None = None
    min_agreement: float = DEFAULT_MIN_AGREEMENT


@dataclass(frozen=True)
class Agreement:
    """How near a file in fewer bits comes to its fp32 twin.

    Attributes:
        top1_agreement: the share of the pictures whose largest output is the same.
        max_relative: the largest difference, relative to the spread (max - min) of all outputs.
        pictures: how many were compared, none of them used for calibration.
        calibration_pictures: how many the value ranges were taken from.
        source: where the pictures come from.
        fp32_bytes: the twin's size, less its card.
        bytes: the size, less the card.
        kept_fp32: the nodes that still compute in fp32 because they would lose too much.
        min_agreement: what `top1_agreement` had to reach.
    """

    top1_agreement: float
    max_relative: float
    pictures: int
    calibration_pictures: int
    source: str
    fp32_bytes: int
    bytes: int
    kept_fp32: tuple[str, ...]
    min_agreement: float


@dataclass(frozen=True)
class Reduced:
    """A model in fewer bits.

    Attributes:
        model: its inputs and outputs are fp32.
        agreement: with its fp32 twin.
        golden: what onnxruntime's CPU provider computes from it.
    """

    model: onnx.ModelProto
    agreement: Agreement
    golden: Golden


def reduce_precision(
    model: onnx.ModelProto,
    input_shape: tuple[int, int, int],
    preprocessing: Preprocessing | None,
    options: PrecisionOptions,
) -> Reduced:
    """Convert a model to fewer bits and compare it with what it was.

    Where int8 agrees too seldom, the first layers, whose errors go the longest way and whose
    weights are few, are kept in fp32: one, then two, then four and so on, up to half of them all.

    Args:
        model: in fp32; left as it is.
        input_shape: (channels, height, width) of one picture.
        preprocessing: how a picture becomes its input, where that is known.
        options: which precision, and how near it must come; not fp32.

    Raises:
        PrecisionError: too few pictures keep their class, or the pictures are of no use.
    """
    pictures = trial_pictures(input_shape, preprocessing, options.calibration)
    twin = model.SerializeToString()
    expected = _outputs(twin, pictures.compared)

    def compare(candidate: onnx.ModelProto, kept: tuple[str, ...]) -> Agreement:
        content = candidate.SerializeToString()
        actual = _outputs(content, pictures.compared)
        return Agreement(
            top1_agreement=float(np.mean(actual.argmax(axis=1) == expected.argmax(axis=1))),
            max_relative=relative_deviation(actual, expected),
            pictures=len(pictures.compared),
            calibration_pictures=len(pictures.calibration) if options.precision == "int8" else 0,
            source=pictures.source,
            fp32_bytes=len(twin),
            bytes=len(content),
            kept_fp32=kept,
            min_agreement=options.min_agreement,
        )

    best: tuple[onnx.ModelProto, Agreement] | None = None
    for candidate, kept in _candidates(model, options.precision, pictures.calibration):
        agreement = compare(candidate, kept)
        if best is None or agreement.top1_agreement > best[1].top1_agreement:
            best = candidate, agreement
        if agreement.top1_agreement >= options.min_agreement:
            return Reduced(candidate, agreement, _golden(candidate, input_shape, options.precision))
    assert best is not None
    raise PrecisionError(
        f"{options.precision} puts the same class first as fp32 on "
        f"{best[1].top1_agreement:.1%} of {best[1].pictures} pictures only "
        f"(--min-agreement {options.min_agreement:g})"
    )


def _candidates(
    model: onnx.ModelProto, precision: Precision, calibration: Inputs
) -> Iterator[tuple[onnx.ModelProto, tuple[str, ...]]]:
    """From the smallest to the most careful: (model, nodes kept in fp32)."""
    if precision == "fp16":
        yield to_fp16(model)
        return
    quantiser = Quantiser(model, calibration)
    layers = quantiser.layers
    counts = [0, *(2**power for power in range(len(layers).bit_length()))]
    for count in counts:
        if count <= _MOST_KEPT * len(layers):
            kept = layers[:count]
            yield quantiser.quantised(kept), kept


def _golden(model: onnx.ModelProto, input_shape: tuple[int, ...], precision: Precision) -> Golden:
    inputs = golden_input(GOLDEN_SEED, (GOLDEN_BATCH, *input_shape))
    outputs = run(open_session(model.SerializeToString()), inputs)
    return golden_of(outputs, inputs.shape, _GOLDEN_TOLERANCES[precision])


def _outputs(model: bytes, inputs: Inputs) -> NDArray[Any]:
    session = open_session(model)
    starts = range(0, len(inputs), _BATCH_SIZE)
    return np.concatenate([run(session, inputs[at : at + _BATCH_SIZE]) for at in starts])
