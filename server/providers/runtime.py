"""What every provider offers: a session that runs a graph."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from convlens.server.errors import ModelLoadError
from convlens.server.plan import Machine, Plan, Precision

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported

import onnxruntime as ort

Array = np.ndarray[Any, np.dtype[Any]]

# What is raised where a model cannot be loaded or run: onnxruntime's classes, one a status code,
# the one that OpenVINO has for everything, and what opening a file may come to.
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    RuntimeError,
    *(
        member
        for member in vars(ort.capi.onnxruntime_pybind11_state).values()
        if isinstance(member, type) and issubclass(member, Exception)
    ),
)


class Node(Protocol):
    """An input or output of a graph, in onnxruntime's words."""

    @property
    def name(self) -> str:
        """As the file has it."""

    @property
    def type(self) -> str:
        """As "tensor(float)"."""

    @property
    def shape(self) -> Sequence[int | str | None]:
        """An integer a fixed axis, a text a symbolic one, None one of which nothing is known."""


class Session(Protocol):
    """A graph that can be run, by several threads at once: onnxruntime's own interface."""

    def get_inputs(self) -> Sequence[Node]:
        """In the graph's order."""

    def get_outputs(self) -> Sequence[Node]:
        """In the graph's order."""

    def run(self, output_names: None, input_feed: Mapping[str, Array]) -> Sequence[Array]:
        """All outputs, in the graph's order, for inputs by name."""


@dataclass(frozen=True)
class ModelSource:
    """A model's file, and what tells it from any other.

    Attributes:
        path: of the file.
        sha256: of its bytes, in hexadecimal.
    """

    path: Path
    sha256: str

    @classmethod
    def read(cls, path: Path) -> "ModelSource":
        """Hash a file.

        Raises:
            ModelLoadError: it cannot be read.
        """
        try:
            with path.open("rb") as file:
                return cls(path, hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise ModelLoadError(str(error)) from error


@dataclass(frozen=True)
class Provider:
    """One way to compute.

    Attributes:
        name: as `--provider` has it.
        precisions: that it can compute in here; the first is the default.
        why_not: tries it; the reason why it does not work here and what would help, None if it
            works.
        open: a session for a model; raises one of `RUNTIME_ERRORS` where the model is broken.
    """

    name: str
    precisions: tuple[Precision, ...]
    why_not: Callable[[], str | None]
    open: Callable[[ModelSource, Plan, Machine], Session]
