"""A model that has been loaded, checked and warmed up."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convlens.analysis import read_metadata
from convlens.analysis.card import Golden, ModelCard, Preprocessing
from convlens.analysis.errors import AnalysisError
from convlens.analysis.hazards import find_runtime_hazard
from convlens.analysis.model_file import read_model
from convlens.server.errors import ModelLoadError
from convlens.server.plan import Machine, Plan
from convlens.server.precision import answering_precision
from convlens.server.providers import RUNTIME_ERRORS, ModelSource, Session, open_session
from convlens.server.signature import Signature, read_signature
from convlens.server.tensor import DTYPES, Array

logger = logging.getLogger(__name__)

# How far outputs may be away, relative to their spread, where the arithmetic is not fp32: in bf16
# trained networks were 0.002 to 0.006 away from fp32, ones with random weights up to 0.04.
REDUCED_TOLERANCE = 0.1


@dataclass(frozen=True)
class Model:
    """One version of a model, ready to run.

    Attributes:
        name: as clients know it.
        version: sorts as a number.
        path: of the file.
        sha256: of the file, in hexadecimal; see `ModelSource`.
        plan: how it is run.
        precision: that answers, see `answering_precision`.
        metadata: of the file, key by key.
        card: what the file says of itself.
        signature: the inputs and outputs of its graph.
        load_seconds: from opening the file to being ready.
        session: what runs it.
    """

    name: str
    version: str
    path: Path
    sha256: str
    plan: Plan
    precision: str
    metadata: dict[str, str]
    card: ModelCard
    signature: Signature
    load_seconds: float
    session: Session

    @property
    def provider(self) -> str:
        """What runs it."""
        return self.plan.provider

    @property
    def takes_pictures(self) -> bool:
        """Whether the file carries what is needed to turn a picture into its input."""
        return self.card.preprocessing is not None

    def run(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        """Run the graph once.

        Args:
            inputs: in the graph's order. The batch axis is free, also where the file fixes it.

        Returns:
            The outputs in the graph's order; of a classifier the first is (n, classes).
        """
        return run_session(self.session, inputs, self.signature.fixed_batch)


def load_model(name: str, version: str, source: ModelSource, plan: Plan, machine: Machine) -> Model:
    """Load a file, and prove that it computes what it promises before anybody is served by it.

    Args:
        name: as clients will know it.
        version: likewise.
        source: the file.
        plan: how it is run.
        machine: what all models share.

    Raises:
        ModelLoadError: the file is broken, or the runtime would crash on it; its card contradicts
            its graph; or its golden outputs are not what it computes here.
    """
    start = time.monotonic()
    try:
        metadata = read_metadata(source.path)
        card = ModelCard.from_metadata(metadata)
    except AnalysisError as error:
        raise ModelLoadError(str(error)) from error
    _check_survivable(source.path)
    session = open_session(source, plan, machine)
    if card.preprocessing is not None:
        _check_input(session, card.preprocessing)
    signature = read_signature(session, pictures=card.preprocessing is not None)
    if card.golden is not None:
        tolerance = _tolerance(card, plan)
        outputs: Array | None = _check_golden(
            session, card.golden, signature.fixed_batch, tolerance
        )
    else:
        outputs = _warm_up(session, signature, card.preprocessing)
    if card.labels is not None:
        declared = signature.outputs[0].shape
        _check_labels(card.labels, declared if outputs is None else outputs.shape)
    return Model(
        name=name,
        version=version,
        path=source.path,
        sha256=source.sha256,
        plan=plan,
        precision=answering_precision(source.path, plan),
        metadata=metadata,
        card=card,
        signature=signature,
        load_seconds=time.monotonic() - start,
        session=session,
    )


def run_session(
    session: Session, inputs: tuple[Array, ...], fixed_batch: int | None
) -> tuple[Array, ...]:
    """Run inputs through a session, in its own batch size where it has a fixed one."""
    names = [node.name for node in session.get_inputs()]
    if fixed_batch is None or len(inputs[0]) == fixed_batch:
        return tuple(map(np.asarray, session.run(None, dict(zip(names, inputs, strict=True)))))
    runs = []
    for start in range(0, len(inputs[0]), fixed_batch):
        chunks = [array[start : start + fixed_batch] for array in inputs]
        padded = [_pad(chunk, fixed_batch) for chunk in chunks]
        outputs = session.run(None, dict(zip(names, padded, strict=True)))
        runs.append([output[: len(chunks[0])] for output in outputs])
    return tuple(np.concatenate(column) for column in zip(*runs, strict=True))


def _pad(chunk: Array, rows: int) -> Array:
    return np.pad(chunk, [(0, rows - len(chunk))] + [(0, 0)] * (chunk.ndim - 1))


def _check_survivable(path: Path) -> None:
    """Keep a file from the runtime that would take the whole process down with it."""
    try:
        hazard = find_runtime_hazard(read_model(path).proto)
    except AnalysisError:  # what is wrong with it, the runtime will say
        return
    if hazard is not None:
        raise ModelLoadError(f"the runtime would not survive {hazard}")


def _check_input(session: Session, preprocessing: Preprocessing) -> None:
    """Compare the graph's input with what the preprocessing makes of a picture."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ModelLoadError(f"a model of pictures has one input; this one has {len(inputs)}")
    wanted = "tensor(float)"
    if preprocessing.keeps_pixels and inputs[0].type == "tensor(uint8)":
        wanted = "tensor(uint8)"
    if inputs[0].type != wanted:
        raise ModelLoadError(f"its input must be {wanted}, is {inputs[0].type}")
    promised = _picture_shape(preprocessing)
    entries = inputs[0].shape[1:]
    if len(entries) != 3 or any(
        isinstance(entry, int) and entry != size
        for entry, size in zip(entries, promised, strict=True)
    ):
        raise ModelLoadError(
            f"its preprocessing makes {list(promised)} of a picture, its input takes {entries}"
        )


def _picture_shape(preprocessing: Preprocessing) -> tuple[int, ...]:
    if preprocessing.layout == "NHWC":
        return (*preprocessing.size, preprocessing.channels)
    return (preprocessing.channels, *preprocessing.size)


def _tolerance(card: ModelCard, plan: Plan) -> float:
    """What is tolerated at least, whatever the file says.

    Golden outputs of a file in fewer bits are onnxruntime's: another provider rounds elsewhere.
    """
    rounds_elsewhere = card.precision != "fp32" and plan.provider != "cpu"
    return REDUCED_TOLERANCE if plan.precision != "fp32" or rounds_elsewhere else 0.0


def _check_labels(labels: tuple[str, ...], shape: tuple[int | None, ...]) -> None:
    """Compare the number of labels with the classes of the first output: (n, classes)."""
    if len(shape) == 2 and shape[1] not in (None, len(labels)):
        raise ModelLoadError(f"it has {shape[1]} classes, and convlens.labels names {len(labels)}")


def _check_golden(session: Session, golden: Golden, batch: int | None, least: float) -> Array:
    if (count := len(session.get_inputs())) != 1:
        raise ModelLoadError(f"golden outputs belong to one input; it has {count}")
    try:
        outputs = run_session(session, (golden.input(),), batch)[0]
    except RUNTIME_ERRORS as error:
        raise ModelLoadError(f"it cannot run its golden input: {error}") from error
    deviation = golden.deviation(outputs)
    tolerance = max(golden.tolerance, least)
    if not deviation <= tolerance:
        raise ModelLoadError(
            f"its outputs differ from the golden ones in the file by {deviation:.2g} of their "
            f"spread; {tolerance:.2g} is allowed"
        )
    return outputs


def _warm_up(
    session: Session, signature: Signature, preprocessing: Preprocessing | None
) -> Array | None:
    """Run zeros once: a model that cannot run must not be called ready.

    Returns:
        The first output; None where nothing was run.

    Zeros need not be a legal input of a model of tensors: that they fail is logged, and not held
    against it. One with axes of any length, besides the batch, is left cold.
    """
    shapes = [spec.shape[1:] if signature.batched else spec.shape for spec in signature.inputs]
    if preprocessing is not None:
        shapes = [_picture_shape(preprocessing)]
    if any(None in shape for shape in shapes):
        return None
    batch = (1,) if signature.batched else ()
    zeros = tuple(
        np.zeros((*batch, *shape), DTYPES[spec.datatype])
        for spec, shape in zip(signature.inputs, shapes, strict=True)
    )
    try:
        return run_session(session, zeros, signature.fixed_batch)[0]
    except RUNTIME_ERRORS as error:
        if preprocessing is not None:
            raise ModelLoadError(f"it cannot run: {error}") from error
        logger.warning("zeros are no input that it can run: %s", error)
        return None
