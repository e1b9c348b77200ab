"""Many pictures: in order or as they come, each with its own failure, never read far ahead."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing

import pytest

from convlens.client import (
    AsyncClient,
    Client,
    ClosedError,
    InvalidArgumentError,
    OverloadedError,
    Picture,
    PictureError,
)
from tests.support import DIGITS, RunningServer, grey_png

LABELS = [path.name[0] for path in DIGITS]
SLOW_IN_FLIGHT = 'convlens_in_flight{model="slow",version="1"}'


async def _of(pictures: list[Picture]) -> AsyncIterator[Picture]:
    for picture in pictures:
        yield picture


def test_outcomes_come_in_the_order_of_the_pictures(lenet5_server: RunningServer) -> None:
    with Client(lenet5_server.address) as client:
        for pictures in (DIGITS, iter(DIGITS), (path.read_bytes() for path in DIGITS)):
            outcomes = list(client.classify_many(pictures))
            assert [outcome.index for outcome in outcomes] == list(range(len(DIGITS)))
            assert [outcome.classification.label for outcome in outcomes] == LABELS


async def test_the_asyncio_client_takes_an_asynchronous_iterator_too(
    lenet5_server: RunningServer,
) -> None:
    async with AsyncClient(lenet5_server.address) as client:
        for pictures in (DIGITS, _of([*DIGITS])):
            outcomes = [outcome async for outcome in client.classify_many(pictures)]
            assert [outcome.picture for outcome in outcomes] == DIGITS
            assert [outcome.classification.label for outcome in outcomes] == LABELS


async def test_as_they_come_nothing_is_lost(lenet5_server: RunningServer) -> None:
    with Client(lenet5_server.address) as client:
        blocking = list(client.classify_many(DIGITS, ordered=False))
    async with AsyncClient(lenet5_server.address) as client_:
        asynchronous = [each async for each in client_.classify_many(DIGITS, ordered=False)]
    for outcomes in (blocking, asynchronous):
        assert sorted(outcome.index for outcome in outcomes) == list(range(len(DIGITS)))
        assert all(each.classification.label == LABELS[each.index] for each in outcomes)


async def test_a_picture_that_fails_does_not_stop_the_others(lenet5_server: RunningServer) -> None:
    pictures: list[Picture] = [DIGITS[0], b"nonsense", "nothing.png", DIGITS[1]]
    with Client(lenet5_server.address) as client:
        blocking = list(client.classify_many(pictures))
    async with AsyncClient(lenet5_server.address) as client_:
        asynchronous = [outcome async for outcome in client_.classify_many(pictures)]
    for outcomes in (blocking, asynchronous):
        kinds = [type(outcome.error) for outcome in outcomes]
        assert kinds == [type(None), InvalidArgumentError, PictureError, type(None)]
        with pytest.raises(PictureError):
            _ = outcomes[2].classification


class Counted:
    """Pictures without end that count how many have been read."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.read += 1
            yield grey_png(self.read % 256)


async def test_pictures_are_read_no_further_ahead_than_stated(
    lenet5_server: RunningServer,
) -> None:
    counted = Counted()
    with (
        Client(lenet5_server.address) as client,
        closing(client.classify_many(counted, concurrency=4)) as outcomes,
    ):
        for taken, _ in enumerate(outcomes, 1):
            assert counted.read <= taken + 8
            if taken == 300:
                break
    counted = Counted()
    async with (
        AsyncClient(lenet5_server.address) as client_,
        aclosing(client_.classify_many(counted, concurrency=4)) as outcomes_,
    ):
        taken = 0
        async for _ in outcomes_:
            taken += 1
            if taken == 100:
                await asyncio.sleep(0.2)  # a slow reader
            assert counted.read <= taken + 8
            if taken == 300:
                break


async def test_an_iteration_that_is_left_leaves_nothing_in_flight(
    slow_server: RunningServer,
) -> None:
    with Client(slow_server.address) as client:
        next(client.classify_many(Counted(), concurrency=3))
    slow_server.wait_for_metric(SLOW_IN_FLIGHT, lambda value: value == 0)
    async with AsyncClient(slow_server.address) as client_:
        async with aclosing(client_.classify_many(Counted(), concurrency=3)) as outcomes:
            await anext(outcomes)
        slow_server.wait_for_metric(SLOW_IN_FLIGHT, lambda value: value == 0)


async def test_a_client_that_is_closed_ends_its_iterations(
    slow_server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(slow_server.address)
    outcomes = client.classify_many(Counted(), concurrency=3)
    next(outcomes)
    client.close()
    with pytest.raises(ClosedError):
        list(outcomes)
    asynchronous = AsyncClient(slow_server.address)
    outcomes_ = asynchronous.classify_many(Counted(), concurrency=3)
    await anext(outcomes_)
    await asynchronous.close()
    with pytest.raises(ClosedError):
        [outcome async for outcome in outcomes_]
    slow_server.wait_for_metric(SLOW_IN_FLIGHT, lambda value: value == 0)
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_an_error_of_the_iterator_itself_is_raised(lenet5_server: RunningServer) -> None:
    def pictures() -> Iterator[Picture]:
        yield DIGITS[0]
        raise RuntimeError("the disk is gone")

    with Client(lenet5_server.address) as client, pytest.raises(RuntimeError, match="disk"):
        list(client.classify_many(pictures()))
    async with AsyncClient(lenet5_server.address) as client_:
        outcomes = client_.classify_many(pictures())
        assert (await anext(outcomes)).classification.label == LABELS[0]
        with pytest.raises(RuntimeError, match="disk"):
            await anext(outcomes)


async def test_an_overloaded_server_is_asked_again_until_all_is_answered(
    slow_server: RunningServer,
) -> None:
    pictures = [grey_png(level) for level in range(7)]  # the queue has 4 places
    with Client(slow_server.address, retries=0) as client:
        refused = [each.error for each in client.classify_many(pictures, concurrency=7)]
    assert any(isinstance(error, OverloadedError) for error in refused)
    async with AsyncClient(slow_server.address, retries=100, timeout_seconds=60) as client_:
        patient = client_.classify_many(pictures, concurrency=7)
        assert [each.error async for each in patient] == [None] * 7
