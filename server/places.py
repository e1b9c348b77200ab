"""How many rows of one model may be in flight."""

import asyncio
from collections import deque


class Places:
    """A semaphore of which several units are taken at once, first come, first served.

    Args:
        total: how many places there are.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return self.total - self._free

    def try_take(self, count: int) -> bool:
        """Take places unless there are too few, or somebody waits for some already."""
        if self._waiting or count > self._free:
            return False
        self._free -= count
        return True

    async def take(self, count: int) -> None:
        """Wait for places; `count` is at most `total`, or it would be for ever."""
        if self.try_take(count):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._wake()
            else:  # its turn came just as its caller went away
                self.give_back(count)
            raise

    def give_back(self, count: int) -> None:
        """Let others have the places."""
        self._free += count
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            count, turn = self._waiting[0]
            if not turn.done():
                if count > self._free:
                    return
                self._free -= count
                turn.set_result(None)
            self._waiting.popleft()
