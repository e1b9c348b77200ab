"""What every provider offers: a session that runs a graph."""

import hashlib
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from convlens.server.errors import ModelLoadError
from convlens.server.external_data import external_files
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
    """A model's file, with those that hold weights of it, and what tells it from any other.

    Attributes:
        path: of the file.
        sha256: in hexadecimal: of the file's bytes; where weights lie in other files, of the lines
            that `sha256sum` prints for it and for each of them, the names left out.
        size_bytes: of all these files.
        weights: the files beside it that hold weights of it.
    """

    path: Path
    sha256: str
    size_bytes: int
    weights: tuple[Path, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "ModelSource":
        """Hash a file, and those that it names.

        Raises:
            ModelLoadError: one cannot be read.
        """
        weights = external_files(path)
        hashed = [_hashed(file) for file in (path, *weights)]
        sha256 = hashed[0][0]
        if weights:
            lines = "".join(f"{digest}\n" for digest, _ in hashed)
            sha256 = hashlib.sha256(lines.encode()).hexdigest()
        return cls(path, sha256, sum(size for _, size in hashed), weights)


def _hashed(path: Path) -> tuple[str, int]:
    """The SHA-256 of a file, and its size in bytes."""
    try:
        # A pipe that nobody writes to is opened all the same; its kind is seen before it is read.
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelLoadError(f"{path}: it is not a regular file")
            return hashlib.file_digest(file, "sha256").hexdigest(), status.st_size
    except OSError as error:
        raise ModelLoadError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ModelLoadError(f"{path}: no file can have that name: {error}") from error


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


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
