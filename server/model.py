"""A model that has been loaded, checked and warmed up."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convlens.analysis import read_metadata
from convlens.analysis.card import Golden, ModelCard
from convlens.analysis.errors import AnalysisError
from convlens.server.errors import ModelLoadError
from convlens.server.session import RUNTIME_ERRORS, open_session

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Model:
    """One version of a model, ready to run.

    Attributes:
        name: as clients know it.
        version: sorts as a number.
        path: of the file.
        sha256: of the file, in hexadecimal.
        provider: what runs it.
        metadata: of the file, key by key.
        card: what the file says of itself.
        batch: the size of the batch axis where the file fixes it, else None.
        load_seconds: from opening the file to being ready.
        session: the `onnxruntime.InferenceSession`.
    """

    name: str
    version: str
    path: Path
    sha256: str
    provider: str
    metadata: dict[str, str]
    card: ModelCard
    batch: int | None
    load_seconds: float
    session: Any

    @property
    def takes_pictures(self) -> bool:
        """Whether the file carries what is needed to turn a picture into its input."""
        return self.card.preprocessing is not None

    def run(self, batch: Array) -> Array:
        """Run one batch.

        Args:
            batch: (n, *the input's other axes); n is free, also where the file fixes the batch.

        Returns:
            (n, classes): the model's first output.
        """
        return run_session(self.session, batch, self.batch)


def load_model(name: str, version: str, path: Path, provider: str, threads: int) -> Model:
    """Load a file, and prove that it computes what it promises before anybody is served by it.

    Args:
        name: as clients will know it.
        version: likewise.
        path: of the file.
        provider: "cpu" or "cuda".
        threads: that one inference on the CPU is spread over.

    Raises:
        ModelLoadError: the file is broken, its card contradicts its graph, or its golden outputs
            are not what it computes here.
    """
    start = time.monotonic()
    try:
        metadata = read_metadata(path)
        card = ModelCard.from_metadata(metadata)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except (AnalysisError, OSError) as error:
        raise ModelLoadError(str(error)) from error
    session = open_session(path, provider, threads)
    batch = _check_input(session, card)
    if card.golden is not None:
        _check_golden(session, card.golden, batch)
    elif card.preprocessing is not None:
        _warm_up(session, card, batch)
    return Model(
        name=name,
        version=version,
        path=path,
        sha256=sha256,
        provider=provider,
        metadata=metadata,
        card=card,
        batch=batch,
        load_seconds=time.monotonic() - start,
        session=session,
    )


def run_session(session: Any, batch: Array, fixed_batch: int | None) -> Array:
    """Run n inputs through a session, in its own batch size where it has a fixed one."""
    name = session.get_inputs()[0].name
    if fixed_batch is None or len(batch) == fixed_batch:
        output: Array = session.run(None, {name: batch})[0]
        return output
    chunks = []
    for start in range(0, len(batch), fixed_batch):
        chunk = batch[start : start + fixed_batch]
        padding = [(0, fixed_batch - len(chunk))] + [(0, 0)] * (batch.ndim - 1)
        chunks.append(session.run(None, {name: np.pad(chunk, padding)})[0][: len(chunk)])
    return np.concatenate(chunks)


def _check_input(session: Any, card: ModelCard) -> int | None:
    """Compare the graph's input with the card; returns the batch size where it is fixed."""
    inputs = session.get_inputs()
    shape = inputs[0].shape if inputs else []
    batch = shape[0] if shape and isinstance(shape[0], int) else None
    preprocessing = card.preprocessing
    if preprocessing is None:
        return batch
    if len(inputs) != 1:
        raise ModelLoadError(f"a model of pictures has one input; this one has {len(inputs)}")
    if inputs[0].type != "tensor(float)":
        raise ModelLoadError(f"its input must be tensor(float), is {inputs[0].type}")
    promised: tuple[int, ...] = (preprocessing.channels, *preprocessing.size)
    if preprocessing.layout == "NHWC":
        promised = (*preprocessing.size, preprocessing.channels)
    entries = shape[1:]
    if len(entries) != 3 or any(
        isinstance(entry, int) and entry != size
        for entry, size in zip(entries, promised, strict=True)
    ):
        raise ModelLoadError(
            f"its preprocessing makes {list(promised)} of a picture, its input takes {entries}"
        )
    return batch


def _check_golden(session: Any, golden: Golden, batch: int | None) -> None:
    try:
        outputs = run_session(session, golden.input(), batch)
    except RUNTIME_ERRORS as error:
        raise ModelLoadError(f"it cannot run its golden input: {error}") from error
    deviation = golden.deviation(outputs)
    if not deviation <= golden.tolerance:
        raise ModelLoadError(
            f"its outputs differ from the golden ones in the file by {deviation:.2g} of their "
            f"spread; {golden.tolerance:.2g} is allowed"
        )


def _warm_up(session: Any, card: ModelCard, batch: int | None) -> None:
    """Run one empty picture: a model that cannot run must not be called ready."""
    preprocessing = card.preprocessing
    assert preprocessing is not None
    height, width = preprocessing.size
    shape = (
        (1, preprocessing.channels, height, width)
        if preprocessing.layout == "NCHW"
        else (1, height, width, preprocessing.channels)
    )
    try:
        run_session(session, np.zeros(shape, np.float32), batch)
    except RUNTIME_ERRORS as error:
        raise ModelLoadError(f"it cannot run: {error}") from error
