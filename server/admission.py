"""Which requests for a model are begun: so many at a time, and none that would come too late."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import Gauge

from convlens.server.caller import CALLER
from convlens.server.clients import Clients
from convlens.server.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    ModelRetiredError,
    OverloadedError,
)
from convlens.server.pace import Pace
from convlens.server.places import Places


class Admission:
    """The door to one model.

    Args:
        model: its name, for messages.
        places: how many rows may be in flight.
        clients: what each client may have in flight; shared by all models.
        gauge: shows what is in flight.
    """

    def __init__(self, model: str, places: int, clients: Clients, gauge: Gauge) -> None:
        self._model = model
        self._places = Places(places)
        self._clients = clients
        self._gauge = gauge
        self._pace = Pace()
        self._closing = False

    @property
    def in_flight(self) -> int:
        """The rows that were let in and are not answered yet."""
        return self._places.taken

    @property
    def is_busy(self) -> bool:
        """Whether more than half of the places are taken."""
        return 2 * self._places.taken > self._places.total

    @asynccontextmanager
    async def admitted(
        self, rows: int, deadline: float, *, wait_for_place: bool
    ) -> AsyncIterator[None]:
        """Hold as many places as there are rows while they are answered.

        Args:
            rows: of the request.
            deadline: as of `time.monotonic`; infinite for none.
            wait_for_place: whether to wait where there are too few, rather than be refused.

        Raises:
            DeadlineExceededError: the answer would most likely be late, as the last ones tell.
            InvalidRequestError: there are never so many places.
            OverloadedError: too much is in flight, for the model or for the client.
            ModelRetiredError: the model was closed while the request waited.
        """
        await self._enter(rows, deadline, wait_for_place=wait_for_place)
        priority = CALLER.get().priority
        start, before = time.monotonic(), self._places.taken_before(priority)
        self._gauge.inc(rows)
        try:
            if self._closing:
                raise ModelRetiredError(f"model {self._model!r} is being unloaded")
            yield
            self._pace.learn(before, time.monotonic() - start)
        except (asyncio.CancelledError, DeadlineExceededError):
            self._pace.learn_at_least(before, time.monotonic() - start)
            raise
        finally:
            self._gauge.dec(rows)
            self._places.give_back(rows, priority)
            self._clients.give_back(rows)

    async def close(self) -> None:
        """Let nothing in any more, and wait until what is in has been answered."""
        self._closing = True
        await self._places.take(self._places.total)
        self._places.give_back(self._places.total)

    async def _enter(self, rows: int, deadline: float, *, wait_for_place: bool) -> None:
        priority = CALLER.get().priority
        before = self._places.taken_before(priority)
        seconds = self._pace.predict(before + rows) if before else 0.0
        if time.monotonic() + seconds > deadline:
            raise DeadlineExceededError(
                f"{before} pictures are in flight for model {self._model!r}: with them this "
                f"would take about {seconds:.3f} s, and the deadline comes sooner"
            )
        if rows > self._places.total:
            raise InvalidRequestError(
                f"{rows} rows in one request; at most {self._places.total} may be in flight"
            )
        retry_after_seconds = self._pace.predict(self._places.taken)
        await self._clients.take(rows, retry_after_seconds, wait_for_place=wait_for_place)
        try:
            if wait_for_place:
                await self._places.take(rows, priority)
            elif not self._places.try_take(rows, priority):
                raise OverloadedError(
                    f"{self._places.taken} pictures are in flight for model "
                    f"{self._model!r}: try again later",
                    retry_after_seconds,
                )
        except BaseException:
            self._clients.give_back(rows)
            raise
