"""Models are loaded for those who ask: once for all who wait, and not for too many."""

import asyncio
from collections.abc import Awaitable, Callable

from convlens.server.errors import ModelNotReadyError, OverloadedError
from convlens.server.version import Version

# What a caller is told that finds too many waiting: a loading takes about that long.
RETRY_AFTER_SECONDS = 1.0

STOPPING = "the model is not in memory, and the server is stopping"


class OnDemand:
    """Lets callers wait for a version's being loaded.

    A caller that goes away leaves the others, and the loading, alone.

    Args:
        load: loads a version that is not in memory.
        most_waiting: for one version; more are refused.
    """

    def __init__(self, load: Callable[[Version], Awaitable[None]], most_waiting: int) -> None:
        self._load = load
        self._most_waiting = most_waiting
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def wait_for(self, version: Version) -> None:
        """Load a version, or wait until it has been: it may have failed.

        Raises:
            OverloadedError: too many wait for it.
            ModelNotReadyError: the server is stopping.
        """
        if self._closing:
            raise ModelNotReadyError(STOPPING)
        if version.callers_waiting >= self._most_waiting:
            raise OverloadedError(
                f"{version.callers_waiting} requests wait for model {version.file.name!r} "
                "to be loaded: try again later",
                RETRY_AFTER_SECONDS,
            )
        if version.loading is None:
            version.loading = asyncio.create_task(self._run(version))
            self._tasks.add(version.loading)
            version.loading.add_done_callback(self._tasks.discard)
        loading = version.loading
        version.callers_waiting += 1
        try:
            await asyncio.wait({loading})
        finally:
            version.callers_waiting -= 1
        if loading.cancelled():
            raise ModelNotReadyError(STOPPING)
        loading.result()

    async def close(self) -> None:
        """Let go of what is being loaded: those who wait for it are told, and no more is begun."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, version: Version) -> None:
        try:
            await self._load(version)
        finally:
            version.loading = None
