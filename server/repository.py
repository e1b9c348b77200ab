"""The models that the server knows: loaded, replaced and unloaded while requests are answered."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, TypeVar

from convlens.server.access import GRANT
from convlens.server.catalogue import Catalogue
from convlens.server.errors import (
    ModelLoadError,
    ModelNotFoundError,
    ModelNotReadyError,
    ModelRetiredError,
    StartError,
)
from convlens.server.judge import Judge, Jury
from convlens.server.lifecycle import Lifecycle
from convlens.server.metrics import Metrics
from convlens.server.model_files import ModelFolder, check_folder
from convlens.server.on_demand import OnDemand
from convlens.server.promotion import Promotion, Promotions
from convlens.server.repository_metrics import RepositoryMetrics
from convlens.server.served_model import ServedModel
from convlens.server.settings import Settings
from convlens.server.trial import Trials
from convlens.server.version import State, Version

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class Repository:
    """Holds every version of every model, and hands out those that can be asked.

    A file that has changed is loaded and checked beside the old one, then takes its place; what is
    in flight finishes on the version on which it started. A broken file leaves the old one serving.
    With a memory budget a model is loaded when it is first asked for; see `Residency`. What happens
    to a version is `Lifecycle`'s.

    Args:
        settings: of the server.
        provider: what runs the models that were not tuned: a key of `PROVIDERS`.
        metrics: of the server.
        on_change: is told a model's name and whether any of its versions can be asked.
        jury: decides of candidates for all processes of the server; None: this one alone decides.
    """

    def __init__(
        self,
        settings: Settings,
        provider: str,
        metrics: Metrics,
        on_change: Callable[[str, bool], None],
        jury: Jury | None = None,
    ) -> None:
        self._settings = settings
        self._folder = ModelFolder(settings.models)
        self._own_metrics = RepositoryMetrics(metrics.registry)
        self._on_change = on_change
        self._catalogue = Catalogue(settings.aliases, settings.default_model, settings.candidates)
        promotions = Promotions(settings.models)
        jury = jury or Judge(settings, promotions, self._promote_later)
        self._trials = Trials(settings, self._own_metrics, self.ask, jury)
        self._lifecycle = Lifecycle(
            settings,
            provider,
            metrics,
            self._own_metrics,
            self._catalogue,
            promotions,
            self._report,
        )
        self._defaults: dict[str, Version | None] = {}  # by model, as they were reported
        self._unloaded: set[str] = set()
        self._changing = asyncio.Lock()
        self._on_demand = OnDemand(self._load_unloaded, settings.queue_size)
        self._promoting: set[asyncio.Task[None]] = set()
        self._loading: set[asyncio.Task[None]] = set()
        self._unloading: set[asyncio.Task[None]] = set()

    @property
    def versions(self) -> list[Version]:
        """Every version, by name and then by version as a number."""
        return self._catalogue.versions

    @property
    def visible(self) -> list[Version]:
        """Those of the versions that the caller may know of."""
        return [entry for entry in self.versions if GRANT.get().opens(entry.file.name)]

    @property
    def ready(self) -> bool:
        """Whether any model can be asked."""
        return any(version.can_be_asked for version in self.versions)

    async def start(self, unloaded: Collection[str] = ()) -> None:
        """Load what the folder holds, for the first time; with a memory budget, look at it.

        Args:
            unloaded: the names of models that `unload` was asked for before.

        Raises:
            StartError: there is nothing to load, or not a single file could be loaded.
        """
        self._unloaded.update(unloaded)
        if not self._settings.watch:
            check_folder(self._settings, await asyncio.to_thread(self._folder.find))
        await self.refresh()
        if self.versions and not self.ready and not self._settings.watch:
            reasons = "; ".join(f"{entry.file.path}: {entry.reason}" for entry in self.versions)
            raise StartError(f"no model could be loaded: {reasons}")

    async def refresh(self) -> None:
        """Bring the models in line with the folder: load what is new, unload what is gone.

        Raises:
            StartError: the folder is gone.
        """
        async with self._changing:
            files = await asyncio.to_thread(self._folder.find)
            wanted = {
                self._catalogue.entry(file): file
                for file in files
                if file.name not in self._unloaded
            }
            for version in self.versions:
                if version not in wanted:
                    await self._lifecycle.unload(version)
            for version, file in wanted.items():
                if version.state is State.LOADING or version.file != file:
                    await self._lifecycle.take(version, file)

    async def load(self, name: str) -> None:
        """Load the versions of one model that are new, changed, failed, or were unloaded.

        Raises:
            PermissionDeniedError: the caller's token does not allow it.
            ModelNotFoundError: there is no file for it.
            ModelLoadError: a version cannot be loaded; one that was served goes on.
        """
        GRANT.get().require_admin()
        await self._finish(self._load(name), self._loading)

    async def _load(self, name: str) -> None:
        files = await asyncio.to_thread(self._folder.find)
        if name not in {file.name for file in files}:
            raise ModelNotFoundError(f"no file for model {name!r} in {self._settings.models.name}/")
        self._unloaded.discard(name)
        for version in self._catalogue.of_model(name):
            version.try_again()
        await self.refresh()
        for version in self._catalogue.of_model(name):
            if version.state is State.UNLOADED:
                await self._on_demand.wait_for(version)
        reasons = [
            entry.reason
            for entry in self._catalogue.of_model(name)
            if entry.state is not State.UNLOADED
        ]
        if any(reasons):
            raise ModelLoadError("; ".join(filter(None, reasons)))

    async def unload(self, name: str) -> None:
        """Unload every version of one model; its files stay, and are not looked at until `load`.

        Raises:
            PermissionDeniedError: the caller's token does not allow it.
            ModelNotFoundError: there is no such model.
        """
        GRANT.get().require_admin()
        await self._finish(self._unload(name), self._unloading)

    async def _unload(self, name: str) -> None:
        async with self._changing:
            versions = self._catalogue.of_model(name)
            if not versions:
                raise ModelNotFoundError(f"no model {name!r}: there are {self._catalogue.names()}")
            self._unloaded.add(name)
            for version in versions:
                await self._lifecycle.unload(version)

    async def ask(
        self, name: str, version: str, question: Callable[[ServedModel], Awaitable[Answer]]
    ) -> Answer:
        """Put a question to the model that is asked for; see `get`.

        Where another file takes the model's place before the question's turn has come, or the model
        is evicted, it is put to what is loaded next.
        """
        while True:
            try:
                return await question(await self.get(name, version))
            except ModelRetiredError:
                continue

    async def get(self, name: str, version: str) -> ServedModel:
        """The model that a request asks for; it is loaded first where it is not in memory.

        Args:
            name: of a model or an alias; empty for the only model, or the default one.
            version: empty for the default one.

        Raises:
            InvalidRequestError: no name was given and there are several models.
            ModelNotFoundError: there is no such model or version.
            ModelNotReadyError: it is being loaded or unloaded.
            ModelLoadError: it is broken, or larger than the memory budget.
            OverloadedError: too many wait for its being loaded.
            PermissionDeniedError: the caller's token does not open it.
        """
        found = self._catalogue.find(name, version)
        found.last_asked = time.monotonic()
        if found.served is None and found.can_be_asked:
            await self._on_demand.wait_for(found)
        if found.served is None:
            raise found.why_not()
        return found.served

    def describe(self, name: str, version: str) -> Version:
        """The version that a request asks for, ready or not; see `get`."""
        return self._catalogue.find(name, version)

    def is_default(self, version: Version) -> bool:
        """Whether it answers the requests for its model that name no version."""
        return self._catalogue.default_of(version.file.name) is version

    async def stop_loading(self) -> None:
        """Load nothing more for those who ask, and let those who wait for a loading know."""
        for task in self._loading:
            task.cancel()
        await self._on_demand.close()

    async def close(self) -> None:
        """Answer what is in flight, then free every thread."""
        await self._trials.close()
        await self.stop_loading()
        for task in self._promoting:
            task.cancel()
        async with self._changing:
            for version in self.versions:
                await self._lifecycle.unload(version, "the server is stopping")
        await self._lifecycle.close()

    async def promote(self, promotion: Promotion) -> None:
        """Let a candidate answer those who name no version, as was decided."""
        async with self._changing:
            await self._lifecycle.promote(promotion)

    async def _finish(
        self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]
    ) -> None:
        """Do something to its end, whether or not its caller waits for that."""
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            raise ModelNotReadyError("the server is stopping") from None

    async def _load_unloaded(self, version: Version) -> None:
        async with self._changing:
            if version.state is State.UNLOADED:  # else it was removed while this waited
                await self._lifecycle.load_on_demand(version)

    async def _report(self, name: str) -> None:
        """Tell of a model one of whose versions has changed."""
        versions = self._catalogue.of_model(name)
        default = self._catalogue.default_of(name)
        self._own_metrics.default(name, default.file.version if default else None)
        self._log_promoted(name, default)
        await self._trials.follow(name, default, versions)
        self._on_change(name, any(entry.can_be_asked for entry in versions))

    def _log_promoted(self, name: str, default: Version | None) -> None:
        """Log that a promoted version begins to answer, or ends."""
        former = self._defaults.get(name)
        self._defaults[name] = default
        if default is None or default is former:
            return
        if default.promoted_over or (former is not None and former.promoted_over):
            logger.info(
                "model %s: version %s answers those who name none%s",
                *default.key,
                ", as it was promoted" if default.promoted_over else "",
            )

    async def _promote_later(self, promotion: Promotion) -> None:
        """Leave it to a task: the trial that was decided waits for this, and is ended by that."""
        task = asyncio.create_task(self.promote(promotion))
        self._promoting.add(task)
        task.add_done_callback(self._promoting.discard)
