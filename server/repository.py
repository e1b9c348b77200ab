"""The models that the server knows: loaded, replaced and unloaded while requests are answered."""

import asyncio
import enum
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from convlens.server.access import GRANT
from convlens.server.errors import (
    InvalidRequestError,
    ModelLoadError,
    ModelNotFoundError,
    ModelNotReadyError,
    ModelRetiredError,
    StartError,
)
from convlens.server.metrics import Metrics
from convlens.server.model import Model, load_model
from convlens.server.model_files import ModelFile, find_model_files
from convlens.server.plan import Gpu, Machine
from convlens.server.processors import processor_count
from convlens.server.providers import ModelSource
from convlens.server.served_model import ServedModel
from convlens.server.settings import Settings
from convlens.server.tuned_file import make_planner

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


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
        file: that was loaded last, or that could not be.
        state: changes as files come and go.
        reason: why it is not ready, or why its newest file is not the one that answers.
        served: what answers requests, once there is such a thing.
    """

    file: ModelFile
    state: State = State.LOADING
    reason: str = "it is being loaded"
    served: ServedModel | None = None


class Repository:
    """Holds every version of every model, and hands out those that are ready.

    A file that has changed is loaded and checked beside the old one, then takes its place; what is
    in flight finishes on the version on which it started. A broken file leaves the old one serving.

    Args:
        settings: of the server.
        provider: what runs the models that were not tuned: a key of `PROVIDERS`.
        metrics: of the server.
        on_change: is told a model's name and whether any of its versions is ready.
    """

    def __init__(
        self,
        settings: Settings,
        provider: str,
        metrics: Metrics,
        on_change: Callable[[str, bool], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._on_change = on_change
        threads = settings.threads or processor_count()
        self._planner = make_planner(
            provider,
            settings.runtime_precision,
            settings.tuned,
            threads,
            settings.max_batch_size,
            any_provider=settings.provider == "auto",
        )
        self._machine = Machine(settings.cache_dir, _gpu(settings))
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._versions: dict[tuple[str, str], Version] = {}
        self._unloaded: set[str] = set()
        self._changing = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def versions(self) -> list[Version]:
        """Every version, by name and then by version as a number."""
        return [self._versions[key] for key in sorted(self._versions, key=_by_number)]

    @property
    def ready(self) -> bool:
        """Whether any model can be served."""
        return any(version.served is not None for version in self._versions.values())

    async def start(self) -> None:
        """Load what the folder holds, for the first time.

        Raises:
            StartError: there is nothing to load, or not a single file could be loaded.
        """
        files = find_model_files(self._settings.models)
        names = sorted({file.name for file in files})
        default = self._settings.default_model
        if not names and not self._settings.watch:
            raise StartError(
                f"--models {self._settings.models}: there is no name.onnx and no "
                "name/1/model.onnx in it"
            )
        if default and default not in names and not self._settings.watch:
            raise StartError(f"--default-model {default}: there are {', '.join(names)}")
        await self.refresh()
        if not self.ready and not self._settings.watch:
            reasons = "; ".join(f"{entry.file.path}: {entry.reason}" for entry in self.versions)
            raise StartError(f"no model could be loaded: {reasons}")

    async def refresh(self) -> None:
        """Bring the models in line with the folder: load what is new, unload what is gone.

        Raises:
            StartError: the folder is gone.
        """
        async with self._changing:
            files = await asyncio.to_thread(find_model_files, self._settings.models)
            wanted = [file for file in files if file.name not in self._unloaded]
            there = {(file.name, file.version) for file in wanted}
            for file in wanted:
                self._versions.setdefault((file.name, file.version), Version(file))
            for key in set(self._versions) - there:
                await self._unload(key)
            for file in wanted:
                version = self._versions[file.name, file.version]
                if version.state is State.LOADING or version.file.stamp != file.stamp:
                    await self._load(version, file)

    async def load(self, name: str) -> None:
        """Load the versions of one model that are new, have changed, or were unloaded.

        Raises:
            PermissionDeniedError: the caller's token does not allow it.
            ModelNotFoundError: there is no file for it.
            ModelLoadError: a version cannot be loaded; one that was served goes on.
        """
        GRANT.get().require_admin()
        files = await asyncio.to_thread(find_model_files, self._settings.models)
        if name not in {file.name for file in files}:
            raise ModelNotFoundError(f"no file for model {name!r} in {self._settings.models.name}/")
        self._unloaded.discard(name)
        await self.refresh()
        reasons = [entry.reason for entry in self.versions if entry.file.name == name]
        if any(reasons):
            raise ModelLoadError("; ".join(filter(None, reasons)))

    async def unload(self, name: str) -> None:
        """Unload every version of one model; its files stay, and are not looked at until `load`.

        Raises:
            PermissionDeniedError: the caller's token does not allow it.
            ModelNotFoundError: there is no such model.
        """
        GRANT.get().require_admin()
        async with self._changing:
            keys = [key for key in self._versions if key[0] == name]
            if not keys:
                raise ModelNotFoundError(f"no model {name!r}: there are {self._names()}")
            self._unloaded.add(name)
            for key in keys:
                await self._unload(key)

    async def ask(
        self, name: str, version: str, question: Callable[[ServedModel], Awaitable[Answer]]
    ) -> Answer:
        """Put a question to the model that is asked for; see `get`.

        Where another file takes the model's place before the question's turn has come, it is put
        to that one.
        """
        while True:
            try:
                return await question(self.get(name, version))
            except ModelRetiredError:
                continue

    def get(self, name: str, version: str) -> ServedModel:
        """The model that a request asks for.

        Args:
            name: of a model or an alias; empty for the only model, or the default one.
            version: empty for the latest that is ready.

        Raises:
            InvalidRequestError: no name was given and there are several models.
            ModelNotFoundError: there is no such model or version.
            ModelNotReadyError: it is being loaded or unloaded.
            ModelLoadError: it is broken.
            PermissionDeniedError: the caller's token does not open it.
        """
        found = self.describe(name, version)
        if found.served is not None:
            return found.served
        file = found.file
        message = f"model {file.name!r} version {file.version} is not ready: {found.reason}"
        if found.state is State.FAILED:
            raise ModelLoadError(message)
        raise ModelNotReadyError(message)

    def describe(self, name: str, version: str) -> Version:
        """The version that a request asks for, ready or not; see `get`."""
        name = name or self._default_name()
        if name in self._settings.aliases:
            name, _, alias_version = self._settings.aliases[name].partition("@")
            version = version or alias_version
        GRANT.get().require_model(name)
        keys = [key for key in self._versions if key[0] == name]
        versions = [self._versions[key] for key in sorted(keys, key=_by_number)]
        if not versions:
            raise ModelNotFoundError(f"no model {name!r}: there are {self._names()}")
        if not version:
            ready = [entry for entry in versions if entry.served is not None]
            return (ready or versions)[-1]
        for entry in versions:
            if entry.file.version == version:
                return entry
        there_are = ", ".join(entry.file.version for entry in versions)
        raise ModelNotFoundError(
            f"model {name!r} has no version {version!r}: there are {there_are}"
        )

    async def close(self) -> None:
        """Answer what is in flight, then free every thread."""
        async with self._changing:
            for key in list(self._versions):
                await self._unload(key, "the server is stopping")
        await asyncio.gather(*self._retiring)
        self._decoders.shutdown()

    async def _load(self, version: Version, file: ModelFile) -> None:
        """Load a file beside what is served now, then put it in its place."""
        version.file = file
        try:
            model = await asyncio.to_thread(self._open, file)
        except ModelLoadError as error:
            version.reason = str(error)
            if version.served is None:
                version.state = State.FAILED
            else:
                version.reason = f"its new file is not served, the former one is: {error}"
            logger.error("model %s version %s: %s", file.name, file.version, version.reason)
            await self._report(file.name)
            return
        former = version.served
        version.served = ServedModel(model, self._decoders, self._metrics, self._settings)
        version.state, version.reason = State.READY, ""
        _log_ready(model)
        await self._report(file.name)
        if former is not None:
            self._retire(former)

    def _open(self, file: ModelFile) -> Model:
        source = ModelSource.read(file.path)
        plan = self._planner.choose(source)
        return load_model(file.name, file.version, source, plan, self._machine)

    async def _unload(self, key: tuple[str, str], reason: str = "it is being unloaded") -> None:
        version = self._versions[key]
        version.state, version.reason = State.UNLOADING, reason
        served, version.served = version.served, None
        if served is not None:
            await served.close()
        self._metrics.remove_model(*key)
        del self._versions[key]
        await self._report(key[0])
        logger.info("model %s version %s is unloaded", *key)

    async def _report(self, name: str) -> None:
        versions = [entry for entry in self.versions if entry.file.name == name]
        await self._on_change(name, any(entry.served is not None for entry in versions))

    def _retire(self, served: ServedModel) -> None:
        """Let a model finish what it began, in the background."""
        task = asyncio.create_task(served.close())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _default_name(self) -> str:
        names = {name for name, _ in self._versions}
        if self._settings.default_model:
            return self._settings.default_model
        if len(names) == 1:
            return names.pop()
        if not names:
            raise ModelNotFoundError("no model is loaded")
        raise InvalidRequestError(f"name a model: there are {self._names()}")

    def _names(self) -> str:
        names = {name for name, _ in self._versions} | {*self._settings.aliases}
        return ", ".join(sorted(names)) or "none"


def _gpu(settings: Settings) -> Gpu:
    return Gpu(
        device=settings.gpu_device,
        memory_bytes=settings.gpu_memory_bytes,
        tf32=settings.tf32,
        convolution_search=settings.convolution_search,
        graphs=settings.cuda_graphs,
    )


def _by_number(key: tuple[str, str]) -> tuple[str, int]:
    name, version = key
    return name, int(version)


def _log_ready(model: Model) -> None:
    logger.info(
        "model %s version %s is ready on %s after %.2f s%s",
        model.name,
        model.version,
        model.plan,
        model.load_seconds,
        " (random weights)" if model.card.weights_origin == "random" else "",
    )
