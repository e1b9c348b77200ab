"""The same network in fewer bits: converted, compared with its fp32 twin, refused where it differs.

What is measured is measured on pictures that calibration has not seen.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from convlens.analysis.card import Golden, Preprocessing, golden_input, relative_deviation
from convlens.export.architecture import Progress
from convlens.export.errors import PrecisionError
from convlens.export.half import to_fp16
from convlens.export.parity import (
    GOLDEN_BATCH,
    GOLDEN_SEED,
    golden_of,
    open_session,
    outputs_of,
    run,
)
from convlens.export.quantisation import Quantiser
from convlens.export.rounding import error_shares
from convlens.export.trial_pictures import trial_pictures

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DEFAULT_MIN_AGREEMENT = 0.99
_RANKED_ON = 16  # pictures: more of them hardly change which layers come first
_TIMINGS = 9
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
        progress: called with (done, total) while int8 is tried layer by layer.
    """

    precision: Precision = "fp32"
    calibration: Path | None = None
    min_agreement: float = DEFAULT_MIN_AGREEMENT
    progress: Progress = lambda _done, _total: None


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
        speedup: the twin's time for one picture over this file's: medians, measured in turn.
        kept_fp32: the nodes that still compute in fp32 because they would lose too much.
        error_shares: of the error that int8 causes in the outputs, the share of each of them.
        min_agreement: what `top1_agreement` had to reach.
    """

    top1_agreement: float
    max_relative: float
    pictures: int
    calibration_pictures: int
    source: str
    fp32_bytes: int
    bytes: int
    speedup: float
    kept_fp32: tuple[str, ...]
    error_shares: tuple[float, ...]
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

    Where int8 agrees too seldom on the calibration pictures, the layers that cause the largest
    error in the outputs are kept in fp32: one, then two, then four and so on, up to half of all.
    The pictures that the file is compared on decide on nothing but whether it is accepted.

    Args:
        model: in fp32; left as it is.
        input_shape: (channels, height, width) of one picture.
        preprocessing: how a picture becomes its input, where that is known.
        options: which precision, and how near it must come; not fp32.

    Raises:
        PrecisionError: too few pictures keep their class, or the pictures are of no use.
    """
    pictures = trial_pictures(input_shape, preprocessing, options.calibration)
    shares: Mapping[str, float] = {}
    if options.precision == "fp16":
        candidate, kept = to_fp16(model)
    else:
        candidate, shares = _to_int8(model, pictures.calibration, options)
        kept = tuple(shares)
    twin, content = model.SerializeToString(), candidate.SerializeToString()
    expected, actual = (outputs_of(each, pictures.compared) for each in (twin, content))
    agreement = Agreement(
        top1_agreement=_top1_agreement(actual, expected),
        max_relative=relative_deviation(actual, expected),
        pictures=len(pictures.compared),
        calibration_pictures=len(pictures.calibration) if options.precision == "int8" else 0,
        source=pictures.source,
        fp32_bytes=len(twin),
        bytes=len(content),
        speedup=_speedup(twin, content, pictures.compared[:1]),
        kept_fp32=kept,
        error_shares=tuple(shares.values()),
        min_agreement=options.min_agreement,
    )
    if agreement.top1_agreement < options.min_agreement:
        raise PrecisionError(
            f"{options.precision} puts the same class first as fp32 on "
            f"{agreement.top1_agreement:.1%} of {agreement.pictures} pictures only "
            f"(--min-agreement {options.min_agreement:g})"
        )
    return Reduced(candidate, agreement, _golden(candidate, input_shape, options.precision))


def _to_int8(
    model: onnx.ModelProto, calibration: Inputs, options: PrecisionOptions
) -> tuple[onnx.ModelProto, Mapping[str, float]]:
    """The model, and of the layers that had to stay in fp32 the shares of the error."""
    expected = outputs_of(model.SerializeToString(), calibration)

    def agreement(candidate: onnx.ModelProto) -> float:
        return _top1_agreement(outputs_of(candidate.SerializeToString(), calibration), expected)

    quantiser = Quantiser(model, calibration)
    shares: Mapping[str, float] = {}
    best = candidate = quantiser.quantised(())
    highest = agreement(candidate)
    if highest >= options.min_agreement:
        return candidate, shares
    worst_first = error_shares(model, candidate, calibration[:_RANKED_ON], options.progress)
    most = int(_MOST_KEPT * len(worst_first))
    for count in sorted({min(2**power, most) for power in range(most.bit_length() + 1)}):
        kept = dict(islice(worst_first.items(), count))
        candidate = quantiser.quantised(kept)
        reached = agreement(candidate)
        if reached > highest:
            best, shares, highest = candidate, kept, reached
        if highest >= options.min_agreement:
            break
    return best, shares


def _top1_agreement(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.mean(actual.argmax(axis=1) == expected.argmax(axis=1)))


def _speedup(twin: bytes, content: bytes, picture: Inputs) -> float:
    """How many times as fast: measured in turn, so that both meet the same load."""
    sessions = [open_session(each) for each in (twin, content)]
    seconds: list[list[float]] = []
    for _ in range(_TIMINGS):
        seconds.append([])
        for session in sessions:
            start = time.perf_counter()
            run(session, picture)
            seconds[-1].append(time.perf_counter() - start)
    exact, reduced = np.median(seconds, axis=0)
    return float(exact / reduced)


def _golden(model: onnx.ModelProto, input_shape: tuple[int, ...], precision: Precision) -> Golden:
    inputs = golden_input(GOLDEN_SEED, (GOLDEN_BATCH, *input_shape))
    outputs = run(open_session(model.SerializeToString()), inputs)
    return golden_of(outputs, inputs.shape, _GOLDEN_TOLERANCES[precision])
