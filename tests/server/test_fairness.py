"""What is urgent goes first, no client takes all there is, and no model keeps another waiting."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from hashlib import sha256
from typing import Any

import grpc
import pytest

from convlens.client import AsyncClient, OverloadedError
from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc
from convlens.server.caller import CALLER, Caller, Priority
from convlens.server.places import Places
from convlens.server.turns import Turns
from tests.support import RunningServer, grey_png, running_server, save_slow_model

GREY = grey_png(100)
IN_FLIGHT = 'convlens_in_flight{model="slow",version="1"}'


@pytest.fixture
async def slow(slow_server: RunningServer) -> AsyncIterator[classifier_pb2_grpc.ClassifierStub]:
    async with grpc.aio.insecure_channel(slow_server.address) as channel:
        yield classifier_pb2_grpc.ClassifierStub(channel)


@pytest.fixture(scope="module")
def limited_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A slow server for two tokens, each with two pictures in flight."""
    folder = tmp_path_factory.mktemp("limited")
    models = folder / "models"
    models.mkdir()
    save_slow_model(models / "slow.onnx", seconds=0.2)
    tokens = folder / "tokens.toml"
    tokens.write_text(
        "\n".join(f'[{name}]\nsha256 = "{sha256(name.encode()).hexdigest()}"' for name in "ab")
    )
    flags = ("--models", str(models), "--tokens", str(tokens), "--max-batch-size", "1")
    with running_server(*flags, "--max-in-flight-per-client", "2") as server:
        yield server


def _call(stub: classifier_pb2_grpc.ClassifierStub, priority: str) -> "asyncio.Task[float]":
    """Ask for one picture; the task's result is when it was answered."""

    async def ask() -> float:
        call: Any = stub.Classify(
            pb.ClassifyRequest(image=GREY), metadata=(("x-priority", priority),)
        )
        await call
        return time.monotonic()

    return asyncio.create_task(ask())


async def _until_in_flight(server: RunningServer, count: int) -> None:
    await asyncio.to_thread(server.wait_for_metric, IN_FLIGHT, partial(float.__eq__, float(count)))


async def test_an_urgent_picture_overtakes_those_that_wait(
    slow_server: RunningServer, slow: classifier_pb2_grpc.ClassifierStub
) -> None:
    normal = [_call(slow, "normal") for _ in range(3)]
    await _until_in_flight(slow_server, 3)
    high = _call(slow, "high")
    answered = await asyncio.gather(*normal, high)
    assert answered[-1] < max(answered[:-1])


async def test_pictures_that_are_not_urgent_leave_room_for_others(
    slow_server: RunningServer, slow: classifier_pb2_grpc.ClassifierStub
) -> None:
    low = [_call(slow, "low") for _ in range(2)]
    await _until_in_flight(slow_server, 2)
    with pytest.raises(grpc.aio.AioRpcError, match="try again later") as refusal:
        await _call(slow, "low")
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await asyncio.gather(*low, _call(slow, "normal"), _call(slow, "high"))


async def test_a_priority_that_does_not_exist_is_refused(
    slow: classifier_pb2_grpc.ClassifierStub,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="must be high, normal, low") as refusal:
        await _call(slow, "urgent")
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_one_client_does_not_take_every_place(limited_server: RunningServer) -> None:
    async with (
        AsyncClient(limited_server.address, token="a", retries=0) as greedy,
        AsyncClient(limited_server.address, token="b") as other,
    ):
        calls = [asyncio.create_task(greedy.classify(GREY)) for _ in range(2)]
        await _until_in_flight(limited_server, 2)
        with pytest.raises(OverloadedError, match="one client may have 2") as refusal:
            await greedy.classify(GREY)
        assert refusal.value.retry_after_seconds > 0
        await other.classify(GREY)
        await asyncio.gather(*calls)
        await greedy.classify(GREY)
    rejected = 'convlens_rejected_total{model="slow",reason="client_limit"}'
    assert limited_server.metric(rejected) == 1


async def test_a_stream_waits_where_its_client_has_too_much_in_flight(
    limited_server: RunningServer,
) -> None:
    metadata = (("authorization", "Bearer a"),)
    async with grpc.aio.insecure_channel(limited_server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)
        requests = (pb.ClassifyRequest(image=GREY, request_id=str(i)) for i in range(5))
        answers = [answer async for answer in stub.ClassifyStream(requests, metadata=metadata)]
    assert sorted(answer.request_id for answer in answers) == list("01234")
    assert not any(answer.HasField("error") for answer in answers)


async def test_a_model_with_much_to_decode_does_not_keep_another_waiting() -> None:
    turns = Turns(1)
    may_go_on = threading.Event()
    done: list[str] = []

    def job(name: str) -> None:
        assert may_go_on.wait(20)
        done.append(name)

    jobs = [asyncio.create_task(turns.run("busy", job, "busy")) for _ in range(8)]
    jobs += [asyncio.create_task(turns.run("other", job, "other")) for _ in range(2)]
    await asyncio.sleep(0)
    CALLER.set(Caller(priority=Priority.HIGH))
    jobs.append(asyncio.create_task(turns.run("busy", job, "urgent")))
    await asyncio.sleep(0)
    jobs[3].cancel()
    may_go_on.set()
    await asyncio.gather(*jobs, return_exceptions=True)
    turns.close()
    begun = ["busy", "busy"]  # were with the thread already
    assert done == [*begun, "urgent", "busy", "other", "busy", "other", "busy", "busy", "busy"]


async def test_places_go_to_the_urgent_first() -> None:
    places = Places(4)
    assert places.try_take(4)
    order: list[Priority] = []

    async def take(priority: Priority) -> None:
        await places.take(2, priority)
        order.append(priority)
        places.give_back(2, priority)

    waiting = [asyncio.create_task(take(priority)) for priority in reversed(Priority)]
    await asyncio.sleep(0)
    places.give_back(4)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert order == [Priority.HIGH, Priority.NORMAL, Priority.LOW]
    assert places.taken == 0
