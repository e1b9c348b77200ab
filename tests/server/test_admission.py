"""Which requests are begun."""

import time

import pytest

from convlens.server.admission import Admission
from convlens.server.clients import Clients
from convlens.server.errors import DeadlineExceededError


async def test_a_deadline_that_has_passed_is_said_as_it_is() -> None:
    admission = Admission("idle", 4, Clients(0))
    with pytest.raises(DeadlineExceededError, match="the deadline has passed"):
        async with admission.admitted(1, time.monotonic() - 1e-3, wait_for_place=False):
            pass
