"""Which requests for a model are begun: so many at a time, and none that would come too late."""

import asyncio
import time
from types import TracebackType

from convlens.server.caller import CALLER, Priority
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
    """

    def __init__(self, model: str, places: int, clients: Clients) -> None:
        self._model = model
        self._places = Places(places)
        self._clients = clients
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

    def admitted(self, rows: int, deadline: float, *, wait_for_place: bool) -> "_Stay":
        """Hold as many places as there are rows while they are answered.

        Args:
            rows: of the request.
            deadline: as of `time.monotonic`; infinite for none.
            wait_for_place: whether to wait where there are too few, rather than be refused.

        Raises, when it is entered:
            DeadlineExceededError: the answer would most likely be late, as the last ones tell.
            InvalidRequestError: there are never so many places.
            OverloadedError: too much is in flight, for the model or for the client.
            ModelRetiredError: the model was closed while the request waited.
        """
        return _Stay(self, rows, deadline, wait_for_place=wait_for_place)

    async def close(self) -> None:
        """Let nothing in any more, and wait until what is in has been answered."""
        self._closing = True
        await self._places.take(self._places.total)
        self._places.give_back(self._places.total)

    async def enter(
        self, rows: int, deadline: float, priority: Priority, *, wait_for_place: bool
    ) -> int:
        """Take the places, see `admitted`; returns how many rows are in flight up to these."""
        before = self._places.taken_before(priority)
        seconds = self._pace.predict(before + rows) if before else 0.0
        if time.monotonic() > deadline:
            raise DeadlineExceededError("the deadline has passed")
        if time.monotonic() + seconds > deadline:
            raise DeadlineExceededError(
                f"{before} pictures are in flight for model {self._model!r}: with them this "
                f"would take about {seconds:.3f} s, and the deadline comes sooner"
            )
        if rows > self._places.total:
            raise InvalidRequestError(
                f"{rows} rows in one request; at most {self._places.total} may be in flight"
            )
        await self._clients.take(rows, self._retry_after_seconds, wait_for_place=wait_for_place)
        try:
            if wait_for_place:
                await self._places.take(rows, priority)
            elif not self._places.try_take(rows, priority):
                raise OverloadedError(
                    f"{self._places.taken} pictures are in flight for model "
                    f"{self._model!r}: try again later",
                    self._retry_after_seconds(),
                )
        except BaseException:
            self._clients.give_back(rows)
            raise
        if self._closing:
            self.leave(rows, priority)
            raise ModelRetiredError(f"model {self._model!r} is being unloaded")
        return self._places.taken_before(priority)

    def leave(self, rows: int, priority: Priority) -> None:
        """Give the places back."""
        self._places.give_back(rows, priority)
        self._clients.give_back(rows)

    def _retry_after_seconds(self) -> float:
        return self._pace.predict(self._places.taken)

    def learn(
        self, before: int, seconds: float, expected: float, error: BaseException | None
    ) -> None:
        """Note how long a request took, or for how long it was waited for in vain."""
        if error is None:
            self._pace.learn(before, seconds, expected)
        elif isinstance(error, asyncio.CancelledError | DeadlineExceededError):
            self._pace.learn_at_least(before, seconds, expected)

    def expect(self, in_flight: int) -> float:
        """The seconds that the last of so many rows takes, see `Pace`."""
        return self._pace.expect(in_flight)


class _Stay:
    """One request's time behind the door."""

    __slots__ = (
        *("_admission", "_before", "_deadline", "_expected", "_priority", "_rows", "_start"),
        "_wait_for_place",
    )

    def __init__(
        self, admission: Admission, rows: int, deadline: float, *, wait_for_place: bool
    ) -> None:
        self._admission = admission
        self._rows = rows
        self._deadline = deadline
        self._wait_for_place = wait_for_place
        self._priority = CALLER.get().priority

    async def __aenter__(self) -> None:
        self._before = await self._admission.enter(
            self._rows, self._deadline, self._priority, wait_for_place=self._wait_for_place
        )
        self._start = time.monotonic()
        self._expected = self._admission.expect(self._before)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        seconds = time.monotonic() - self._start
        self._admission.learn(self._before, seconds, self._expected, error)
        self._admission.leave(self._rows, self._priority)
