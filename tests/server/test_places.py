"""Places that requests wait for."""

import asyncio

import pytest

from convlens.server.places import Places


async def test_places_go_to_who_came_first_and_come_back_from_who_left() -> None:
    places = Places(4)
    assert places.try_take(3)
    large = asyncio.ensure_future(places.take(4))
    small = asyncio.ensure_future(places.take(1))
    await asyncio.sleep(0)
    assert not places.try_take(1)  # there is one, but others wait
    assert not small.done()
    large.cancel()
    await asyncio.wait_for(small, 5)
    places.give_back(3)
    assert places.try_take(3)
    assert not places.try_take(1)


async def test_a_place_that_came_as_its_caller_left_is_given_on() -> None:
    places = Places(1)
    assert places.try_take(1)
    waiting = asyncio.ensure_future(places.take(1))
    await asyncio.sleep(0)
    places.give_back(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert places.try_take(1)
