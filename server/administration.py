"""Loading and unloading on request: in this process, or in every worker of the server."""

from typing import Protocol

from convlens.server.access import GRANT
from convlens.server.channel import Channel


class Administration(Protocol):
    """Who loads and unloads models; see `Repository`."""

    async def load(self, name: str) -> None:
        """Load the versions of one model that are new, have changed, or were unloaded."""

    async def unload(self, name: str) -> None:
        """Unload every version of one model."""


class SharedAdministration:
    """Asks the supervisor, which has it done by every worker before it answers.

    Args:
        supervisor: the way to it.
    """

    def __init__(self, supervisor: Channel) -> None:
        self._supervisor = supervisor

    async def load(self, name: str) -> None:
        """See `Repository.load`."""
        GRANT.get().require_admin()
        await self._supervisor.call("administer", "load", name)

    async def unload(self, name: str) -> None:
        """See `Repository.unload`."""
        GRANT.get().require_admin()
        await self._supervisor.call("administer", "unload", name)
