"""Who decides that a candidate agreed often enough: one place for all processes of a server."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Protocol

from convlens.server.channel import Channel
from convlens.server.promotion import Promotion, Promotions
from convlens.server.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contest:
    """What is compared: the very file of a candidate with the one whose answers were given.

    Attributes:
        candidate: as it would be promoted.
        rival_sha256: of the file that answered.
    """

    candidate: Promotion
    rival_sha256: str


class Jury(Protocol):
    """Is told what comparisons came to; see `Judge.count`."""

    async def count(self, contest: Contest, agreed: int, compared: int) -> None:
        """Take note of rows that were compared."""


class Judge:
    """Adds up what agreed, and judges after so many rows as the settings say.

    Args:
        settings: of the server.
        promotions: those that hold; a candidate that is among them has been judged.
        promote: is called, once, where a candidate agreed often enough.
    """

    def __init__(
        self,
        settings: Settings,
        promotions: Promotions,
        promote: Callable[[Promotion], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._promotions = promotions
        self._promote = promote
        self._counts: dict[str, tuple[Contest, int, int]] = {}  # by model: agreed, compared

    async def count(self, contest: Contest, agreed: int, compared: int) -> None:
        """Take note of rows that were compared; other files than before begin the count anew.

        Args:
            contest: what was compared.
            agreed: of the rows.
            compared: the rows.
        """
        candidate = contest.candidate
        if self._settings.promote_at and candidate in self._promotions:
            return
        before = self._counts.get(candidate.model)
        if before is not None and before[0] == contest:
            agreed, compared = agreed + before[1], compared + before[2]
        self._counts[candidate.model] = contest, agreed, compared
        if compared >= self._settings.promote_after:
            del self._counts[candidate.model]
            await self._decide(candidate, agreed, compared)

    async def _decide(self, candidate: Promotion, agreed: int, compared: int) -> None:
        share = agreed / compared
        passed = 0.0 < self._settings.promote_at <= share
        logger.log(
            logging.INFO if passed or not self._settings.promote_at else logging.WARNING,
            "candidate %s@%s gave the same first prediction for %.2f %% of %d rows%s",
            candidate.model,
            candidate.version,
            100 * share,
            compared,
            ": it becomes the default version" if passed else "",
        )
        if passed:
            self._promotions.add(candidate)
            self._promotions.keep()
            await self._promote(candidate)


class SharedJury:
    """Tells the supervisor, which counts what all workers compared.

    Args:
        supervisor: the way to it.
    """

    def __init__(self, supervisor: Channel) -> None:
        self._supervisor = supervisor

    async def count(self, contest: Contest, agreed: int, compared: int) -> None:
        """See `Judge.count`."""
        await self._supervisor.call("count", asdict(contest), agreed, compared)
