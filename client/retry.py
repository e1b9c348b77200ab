"""When a call is made again: after failures that pass, within its deadline, and not for ever."""

import random
import time
from dataclasses import dataclass

import grpc

from convlens.client.errors import OverloadedError, UnavailableError, from_rpc_error

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True)
class Retry:
    """How calls are made again; every call of the service is idempotent.

    Attributes:
        retries: the most further attempts of one call; 0 for none.
        timeout_seconds: for all attempts of one call together.
    """

    retries: int
    timeout_seconds: float


class Attempts:
    """The attempts of one call.

    Args:
        retry: how often and how long.
        address: of the server, for the texts of errors.
    """

    def __init__(self, retry: Retry, address: str) -> None:
        self._left = retry.retries
        self._deadline = time.monotonic() + retry.timeout_seconds
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._address = address

    @property
    def remaining_seconds(self) -> float:
        """Until the deadline of the call."""
        return max(0.0, self._deadline - time.monotonic())

    def pause_after(self, error: grpc.RpcError) -> float:
        """How many seconds to wait before the next attempt.

        Pauses double, and are drawn from the upper half so that callers that failed together do
        not come back together; a server that names a time (RetryInfo) is not asked sooner.

        Raises:
            ClientError: there is no further attempt: another one would not help, there have been
                enough, or the deadline would pass meanwhile.
        """
        failure = from_rpc_error(error, self._address)
        if not isinstance(failure, UnavailableError | OverloadedError) or self._left == 0:
            raise failure from error
        pause = self._pause_seconds * random.uniform(0.5, 1.0)  # noqa: S311
        if isinstance(failure, OverloadedError):
            pause = max(pause, failure.retry_after_seconds * random.uniform(1.0, 1.5))  # noqa: S311
        if pause >= self.remaining_seconds:
            raise failure from error
        self._left -= 1
        self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
        return pause
