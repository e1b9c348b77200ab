"""How much one client may have in flight, over all models."""

from collections.abc import Callable

from convlens.server.caller import CALLER
from convlens.server.errors import ClientLimitError, InvalidRequestError
from convlens.server.places import Places


class Clients:
    """Bounds the rows that each client has in flight.

    Args:
        limit: the most rows of one client; 0 for no limit.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places: dict[str, Places] = {}

    async def take(
        self, rows: int, retry_after_seconds: Callable[[], float], *, wait_for_place: bool
    ) -> None:
        """Take so many of the caller's places.

        Args:
            rows: of the request.
            retry_after_seconds: tells what a caller that is refused is told.
            wait_for_place: whether to wait where there are too few, rather than be refused.

        Raises:
            ClientLimitError: the client has too much in flight.
            InvalidRequestError: the request alone is more than a client may have in flight.
        """
        if not self._limit:
            return
        if rows > self._limit:
            raise InvalidRequestError(
                f"{rows} rows in one request; one client may have {self._limit} in flight"
            )
        places = self._places.setdefault(CALLER.get().client, Places(self._limit))
        if wait_for_place:
            await places.take(rows)
        elif not places.try_take(rows):
            raise ClientLimitError(
                f"one client may have {self._limit} pictures in flight: try again later",
                retry_after_seconds(),
            )

    def give_back(self, rows: int) -> None:
        """Give the caller's places back; nothing is kept of a client that has none."""
        client = CALLER.get().client
        if self._limit and (places := self._places.get(client)) is not None:
            places.give_back(rows)
            if not places.taken:
                del self._places[client]
