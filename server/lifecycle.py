"""One version of a model on its way into memory, into another one's place, and out again."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from convlens.server.catalogue import Catalogue
from convlens.server.errors import ModelLoadError
from convlens.server.failures import public_message
from convlens.server.loader import Loader
from convlens.server.memory import give_back_memory
from convlens.server.metrics import Metrics
from convlens.server.model_files import ModelFile
from convlens.server.promotion import Promotion, Promotions
from convlens.server.providers import ModelSource
from convlens.server.repository_metrics import RepositoryMetrics
from convlens.server.residency import Residency
from convlens.server.served_model import ServedModel
from convlens.server.settings import Settings
from convlens.server.version import State, Version

logger = logging.getLogger(__name__)

NOT_LOADED = "it is loaded when it is asked for"


class Lifecycle:
    """Takes versions through their lives; one call at a time changes a version.

    Args:
        settings: of the server.
        provider: what runs the models that were not tuned: a key of `PROVIDERS`.
        metrics: of the server.
        own_metrics: of the repository.
        catalogue: of the versions.
        promotions: the candidates that are none any more.
        on_change: is told the name of a model one of whose versions has changed.
    """

    def __init__(
        self,
        settings: Settings,
        provider: str,
        metrics: Metrics,
        own_metrics: RepositoryMetrics,
        catalogue: Catalogue,
        promotions: Promotions,
        on_change: Callable[[str], Awaitable[None]],
    ) -> None:
        self._metrics = metrics
        self._own_metrics = own_metrics
        self._catalogue = catalogue
        self._promotions = promotions
        self._promotes = bool(settings.promote_at)
        self._on_change = on_change
        self._loader = Loader(settings, provider, metrics)
        self._lazy = bool(settings.memory_budget)
        self._residency = Residency(settings.memory_budget, catalogue, self._evict)
        self._background: set[asyncio.Task[None]] = set()

    async def take(self, version: Version, file: ModelFile) -> None:
        """Take a file that is new or has changed: load it, or wait until somebody asks for it."""
        if self._lazy and version.served is None:
            version.file = file
            version.become(State.UNLOADED, NOT_LOADED)
            self._own_metrics.failed(version.key, failed=False)
            await self._judge(version)
            await self._on_change(file.name)
        else:
            await self._load(version, file)

    async def load_on_demand(self, version: Version) -> None:
        """Load what is not in memory because somebody asks for it."""
        version.become(State.LOADING, "it is being loaded")
        try:
            await self._load(version, version.file)
        except BaseException:  # our own fault, or the server stops: the next request tries again
            version.become(State.UNLOADED, NOT_LOADED)
            raise
        finally:
            outcome = "failed" if version.served is None else "ready"
            self._own_metrics.loads.labels(*version.key, outcome).inc()

    async def unload(self, version: Version, reason: str = "it is being unloaded") -> None:
        """Answer what is in flight, then forget a version."""
        await self._free(version, State.UNLOADING, reason)
        self._own_metrics.forget(version.key)
        self._catalogue.remove(version)
        if not self._catalogue.of_model(version.file.name):
            self._metrics.forget_model(version.file.name)
        await self._on_change(version.file.name)
        logger.info("model %s version %s is unloaded", *version.key)

    async def promote(self, promotion: Promotion) -> None:
        """Let a candidate answer those who name no version, unless its file is another by now."""
        self._promotions.add(promotion)
        for version in self._catalogue.of_model(promotion.model):
            before = version.candidate, version.promoted_over
            if any(before):
                await self._judge(version)
            if before != (version.candidate, version.promoted_over):
                if before[0] and not version.candidate:
                    self._own_metrics.promotions.labels(*version.key).inc()
                await self._on_change(promotion.model)

    async def close(self) -> None:
        """Free every thread, once those that were replaced have answered what is in flight."""
        await asyncio.gather(*self._background)
        self._loader.close()

    async def _load(self, version: Version, file: ModelFile) -> None:
        """Load a file beside what is served now, then put it in its place.

        It is the version's file once that is settled: where this is cancelled, it is tried again.
        """
        try:
            prepared = await self._loader.prepare(file, estimate=self._lazy)
            if self._lazy:
                await self._residency.make_room(version, prepared.memory_bytes)
            served = await self._loader.load(prepared)
        except Exception as error:  # noqa: BLE001 - whatever it is, it stops no other model
            version.file = file
            reason = public_message(error)
            if version.served is None:
                version.become(State.FAILED, reason)
            else:
                version.reason = f"its new file is not served, the former one is: {reason}"
            logger.error("model %s version %s: %s", file.name, file.version, version.reason)
            self._own_metrics.failed(version.key, failed=True)
            await self._on_change(file.name)
            return
        former = version.served
        version.file, version.served = file, served
        version.become(State.READY)
        self._own_metrics.failed(version.key, failed=False)
        version.memory_bytes = prepared.memory_bytes
        version.stays_until = time.monotonic() + served.model.load_seconds
        # What answered until now goes on where nothing else could.
        is_needed = former is not None and not version.candidate and self._is_alone(version)
        await self._judge(version)
        version.candidate = version.candidate and not is_needed
        self._own_metrics.resident(version.key, prepared.memory_bytes)
        await self._on_change(file.name)
        if former is not None:
            task = asyncio.create_task(_retire(former))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    def _is_alone(self, version: Version) -> bool:
        others = self._catalogue.of_model(version.file.name)
        return not any(entry.can_be_asked for entry in others if entry is not version)

    async def _judge(self, version: Version) -> None:
        """Settle whether a version is a candidate, and what it goes before."""
        promotion = await self._promotion_of(version)
        is_on_trial = promotion is None or not self._promotes
        version.candidate = is_on_trial and self._catalogue.is_named_candidate(*version.key)
        version.promoted_over = promotion.over if promotion else 0

    async def _promotion_of(self, version: Version) -> Promotion | None:
        """That of its very file, which is hashed only where that decides it."""
        promotion = self._promotions.find(*version.key)
        if promotion is None:
            return None
        if version.served is not None:
            sha256 = version.served.model.sha256
        else:
            try:
                sha256 = (await asyncio.to_thread(ModelSource.read, version.file.path)).sha256
            except ModelLoadError:  # whoever asks for it will be told
                return None
        return promotion if promotion.sha256 == sha256 else None

    async def _evict(self, version: Version) -> None:
        """Free a version's memory; the next request for it loads it again."""
        self._own_metrics.evictions.labels(*version.key).inc()
        await self._free(version, State.UNLOADED, NOT_LOADED)
        logger.info("model %s version %s made room for another", *version.key)

    async def _free(self, version: Version, state: State, reason: str) -> None:
        version.become(state, reason)
        if version.served is not None:
            retiring = _retire(version.served)
            version.served = None
            await retiring
        self._metrics.remove_model(*version.key)
        self._own_metrics.resident(version.key, 0)
        version.memory_bytes = 0


async def _retire(served: ServedModel) -> None:
    """Let a model answer what is in flight, and free its memory."""
    await served.close()
    del served  # or else it would be in use still
    await asyncio.to_thread(give_back_memory)
