"""Whose picture is decoded next: models take turns, and what is urgent goes first."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from convlens.server.caller import CALLER, Priority
from convlens.server.threads import Threads

Result = TypeVar("Result")

# Jobs handed to the threads beyond those that run: a thread that is done finds its next one there,
# and need not wait for the event loop.
AHEAD = 2


class Turns:
    """Threads that models share fairly.

    Within a priority each model that has work waiting gets every nth turn, n being how many such
    models there are: one that is busy does not keep the others waiting.

    Args:
        threads: how many there are.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._threads = Threads(threads, "decode")
        self._free = threads * AHEAD
        self._waiting: dict[Priority, dict[object, deque[asyncio.Future[None]]]] = {
            priority: {} for priority in Priority
        }

    async def run(self, model: object, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run a function in a thread when it is the model's turn."""
        await self._turn(model)
        try:
            return await self._threads.run(function, *arguments)
        finally:
            self._give_back()

    def close(self) -> None:
        """End the threads."""
        self._threads.close()

    async def _turn(self, model: object) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        models = self._waiting[CALLER.get().priority]
        models.setdefault(model, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn came just as its caller went away
                self._give_back()
            raise

    def _give_back(self) -> None:
        """Give the turn to whoever is next; a model that had one goes to the end of the line."""
        for models in self._waiting.values():
            while models:
                model = next(iter(models))
                turns = models.pop(model)
                while turns:
                    turn = turns.popleft()
                    if not turn.done():
                        if turns:
                            models[model] = turns
                        turn.set_result(None)
                        return
        self._free += 1
