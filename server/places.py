"""How many rows may be in flight."""

import asyncio
from collections import deque

from convlens.server.caller import Priority

# What is not urgent finds room in this share of the places: the rest is kept for what is.
LOW_PRIORITY_SHARE = 0.5


class Places:
    """A semaphore of which several units are taken at once.

    Those who wait get theirs by priority, and within one priority first come, first served.

    Args:
        total: how many places there are.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._for_low = max(1, int(total * LOW_PRIORITY_SHARE))
        self._taken = [0] * len(Priority)
        self._waiting: dict[Priority, deque[tuple[int, asyncio.Future[None]]]] = {}

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return sum(self._taken)

    def taken_before(self, priority: Priority) -> int:
        """How many are taken by what goes before a request of this priority."""
        return sum(self._taken[: priority + 1])

    def try_take(self, count: int, priority: Priority = Priority.NORMAL) -> bool:
        """Take places unless there are too few, or somebody as urgent waits for some already."""
        if self._waiting and min(self._waiting) <= priority:
            return False
        if not self._has_room(count, priority):
            return False
        self._taken[priority] += count
        return True

    async def take(self, count: int, priority: Priority = Priority.NORMAL) -> None:
        """Wait for places; `count` is at most `total`, or it would be for ever."""
        if self.try_take(count, priority):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(priority, deque()).append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._wake()
            else:  # its turn came just as its caller went away
                self.give_back(count, priority)
            raise

    def give_back(self, count: int, priority: Priority = Priority.NORMAL) -> None:
        """Let others have the places."""
        self._taken[priority] -= count
        if self._waiting:
            self._wake()

    def _has_room(self, count: int, priority: Priority) -> bool:
        taken = self.taken
        if priority is Priority.LOW and taken:  # alone it may take as many as it needs
            return taken + count <= self._for_low
        return taken + count <= self.total

    def _wake(self) -> None:
        for priority in sorted(self._waiting):
            waiting = self._waiting[priority]
            while waiting:
                count, turn = waiting[0]
                if not turn.done():
                    if not self._has_room(count, priority):
                        return
                    self._taken[priority] += count
                    turn.set_result(None)
                waiting.popleft()
            del self._waiting[priority]
