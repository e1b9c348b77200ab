"""The models that the server knows: found in a folder, loaded, asked for by name and version."""

import asyncio
import enum
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from convlens.server.errors import (
    InvalidRequestError,
    ModelLoadError,
    ModelNotFoundError,
    ModelNotReadyError,
    StartError,
)
from convlens.server.metrics import Metrics
from convlens.server.model import load_model
from convlens.server.processors import processor_count
from convlens.server.served_model import ServedModel
from convlens.server.settings import Settings

logger = logging.getLogger(__name__)


class State(enum.Enum):
    """Where a version of a model is in its life."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADING = "unloading"


@dataclass
class Version:
    """One version of a model, whether or not it can be served.

    Attributes:
        name: of the model.
        version: a number as a string.
        path: of the file.
        state: changes as the file is loaded.
        reason: why it is not ready; empty where it is.
        served: what answers requests, once it is ready.
    """

    name: str
    version: str
    path: Path
    state: State = State.LOADING
    reason: str = "it is being loaded"
    served: ServedModel | None = None


def find_files(folder: Path) -> list[Version]:
    """Find `name.onnx` (version 1) and `name/version/model.onnx` in a folder.

    Returns:
        By name, then by version as a number.

    Raises:
        StartError: there is no such folder, or no model in it.
    """
    if not folder.is_dir():
        raise StartError(f"--models {folder}: there is no such folder")
    found = [Version(path.stem, "1", path) for path in folder.glob("*.onnx")]
    for path in folder.glob("*/*/model.onnx"):
        if path.parent.name.isdecimal():
            found.append(Version(path.parent.parent.name, path.parent.name, path))
        else:
            logger.warning("%s: ignored, its folder's name is not a number", path)
    if not found:
        raise StartError(f"--models {folder}: there is no name.onnx and no name/1/model.onnx in it")
    return sorted(found, key=lambda version: (version.name, int(version.version)))


class Repository:
    """Holds every version of every model, and hands out those that are ready.

    Args:
        settings: of the server.
        provider: what runs the models: "cpu" or "cuda".
        metrics: of the server.

    Raises:
        StartError: there is nothing to load.
    """

    def __init__(self, settings: Settings, provider: str, metrics: Metrics) -> None:
        self._settings = settings
        self._provider = provider
        self._metrics = metrics
        self._threads = settings.threads or processor_count()
        self._decoders = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        self.versions = find_files(settings.models)
        names = {version.name for version in self.versions}
        if settings.default_model and settings.default_model not in names:
            raise StartError(
                f"--default-model {settings.default_model}: there are {', '.join(sorted(names))}"
            )

    async def load(self) -> None:
        """Load every version, one after the other; a broken one does not stop the others.

        Raises:
            StartError: not a single one could be loaded.
        """
        for version in self.versions:
            await self._load(version)
        if not any(version.state is State.READY for version in self.versions):
            reasons = "; ".join(f"{version.path}: {version.reason}" for version in self.versions)
            raise StartError(f"no model could be loaded: {reasons}")

    def get(self, name: str, version: str) -> ServedModel:
        """The model that a request asks for.

        Args:
            name: empty for the only model, or the default one.
            version: empty for the latest that is ready.

        Raises:
            InvalidRequestError: no name was given and there are several models.
            ModelNotFoundError: there is no such model or version.
            ModelNotReadyError: it is being loaded or unloaded.
            ModelLoadError: it is broken.
        """
        found = self.describe(name, version)
        if found.served is not None:
            return found.served
        message = f"model {found.name!r} version {found.version} is not ready: {found.reason}"
        if found.state is State.FAILED:
            raise ModelLoadError(message)
        raise ModelNotReadyError(message)

    def describe(self, name: str, version: str) -> Version:
        """The version that a request asks for, ready or not; see `get`."""
        name = name or self._default_name()
        versions = [entry for entry in self.versions if entry.name == name]
        if not versions:
            raise ModelNotFoundError(f"no model {name!r}: there are {self._names()}")
        if not version:
            ready = [entry for entry in versions if entry.state is State.READY]
            return (ready or versions)[-1]
        for entry in versions:
            if entry.version == version:
                return entry
        there_are = ", ".join(entry.version for entry in versions)
        raise ModelNotFoundError(
            f"model {name!r} has no version {version!r}: there are {there_are}"
        )

    async def close(self) -> None:
        """Answer what is in flight, then free every thread."""
        for version in self.versions:
            if version.served is not None:
                version.state, version.reason = State.UNLOADING, "the server is stopping"
                await version.served.close()
        self._decoders.shutdown()

    async def _load(self, version: Version) -> None:
        try:
            model = await asyncio.to_thread(
                load_model,
                version.name,
                version.version,
                version.path,
                self._provider,
                self._threads,
            )
        except ModelLoadError as error:
            version.state, version.reason = State.FAILED, str(error)
            logger.error("model %s version %s: %s", version.name, version.version, error)
            return
        version.served = ServedModel(model, self._decoders, self._metrics, self._settings)
        version.state, version.reason = State.READY, ""
        logger.info(
            "model %s version %s is ready on %s after %.2f s%s",
            version.name,
            version.version,
            model.provider,
            model.load_seconds,
            " (random weights)" if model.card.weights_origin == "random" else "",
        )

    def _default_name(self) -> str:
        names = {version.name for version in self.versions}
        if self._settings.default_model:
            return self._settings.default_model
        if len(names) == 1:
            return names.pop()
        raise InvalidRequestError(f"name a model: there are {self._names()}")

    def _names(self) -> str:
        return ", ".join(sorted({version.name for version in self.versions}))
