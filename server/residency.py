"""Which models are in memory: within the budget, and the least recently used ones go first."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from convlens.server.catalogue import Catalogue
from convlens.server.errors import ModelLoadError
from convlens.server.version import Version

logger = logging.getLogger(__name__)


class Residency:
    """Makes room for a model that is to be loaded.

    A version that was loaded stays at least as long as its loading took, so that models which do
    not fit together take turns and never spend more than half of the time on loading.

    Args:
        budget_bytes: what all models together may take.
        catalogue: of the models.
        evict: unloads a version once it has answered what is in flight.
    """

    def __init__(
        self,
        budget_bytes: int,
        catalogue: Catalogue,
        evict: Callable[[Version], Awaitable[None]],
    ) -> None:
        self._budget_bytes = budget_bytes
        self._catalogue = catalogue
        self._evict = evict

    async def make_room(self, wanted: Version, memory_bytes: int) -> None:
        """Evict others until a version fits; one that is only replaced takes its own place.

        Raises:
            ModelLoadError: it would not fit if it were alone.
        """
        if memory_bytes > self._budget_bytes:
            raise ModelLoadError(
                f"it takes about {_mebibytes(memory_bytes)}, which is more than "
                f"--memory-budget {_mebibytes(self._budget_bytes)}"
            )
        while True:
            loaded = [
                entry
                for entry in self._catalogue.versions
                if entry.served is not None and entry is not wanted
            ]
            if memory_bytes + sum(entry.memory_bytes for entry in loaded) <= self._budget_bytes:
                return
            await self._evict_one(loaded)

    async def _evict_one(self, loaded: list[Version]) -> None:
        """Evict the least recently used one, idle ones first, as soon as one has had its time."""
        now = time.monotonic()
        free_to_go = [entry for entry in loaded if entry.stays_until <= now]
        if not free_to_go:
            await asyncio.sleep(min(entry.stays_until for entry in loaded) - now)
            return
        victim = min(free_to_go, key=lambda entry: (_is_busy(entry), entry.last_asked))
        await self._evict(victim)


def _is_busy(version: Version) -> bool:
    return version.served is not None and version.served.in_flight > 0


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
