"""Calls are made again only where that helps, and never beyond their deadline."""

import asyncio
import socket

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from convlens.client import (
    AsyncClient,
    Client,
    InvalidArgumentError,
    OverloadedError,
    UnavailableError,
)
from convlens.client.retry import Attempts, Retry
from tests.support import DIGITS, running_server

NOBODY = "127.0.0.1:1"


def _error(code: grpc.StatusCode, retry_after_seconds: int | None = None) -> grpc.aio.AioRpcError:
    trailers = grpc.aio.Metadata()
    if retry_after_seconds is not None:
        info = any_pb2.Any()
        delay = duration_pb2.Duration(seconds=retry_after_seconds)
        info.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        trailers.add(
            "grpc-status-details-bin", status_pb2.Status(details=[info]).SerializeToString()
        )
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details="full")


def test_pauses_grow_and_attempts_end() -> None:
    attempts = Attempts(Retry(retries=3, timeout_seconds=60), NOBODY)
    error = _error(grpc.StatusCode.UNAVAILABLE)
    pauses = [attempts.pause_after(error) for _ in range(3)]
    for pause, most in zip(pauses, (0.1, 0.2, 0.4), strict=True):
        assert most / 2 <= pause <= most
    with pytest.raises(UnavailableError):
        attempts.pause_after(error)


def test_a_server_that_names_a_time_is_not_asked_sooner() -> None:
    attempts = Attempts(Retry(retries=1, timeout_seconds=60), NOBODY)
    assert 7 <= attempts.pause_after(_error(grpc.StatusCode.RESOURCE_EXHAUSTED, 7)) <= 10.5


def test_no_attempt_is_waited_for_that_would_come_too_late() -> None:
    attempts = Attempts(Retry(retries=5, timeout_seconds=6), NOBODY)
    with pytest.raises(OverloadedError):
        attempts.pause_after(_error(grpc.StatusCode.RESOURCE_EXHAUSTED, 7))


@pytest.mark.parametrize(
    "code",
    [
        code
        for code in grpc.StatusCode
        if code.name not in ("OK", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED")
    ],
)
def test_what_another_attempt_would_not_change_is_raised_at_once(code: grpc.StatusCode) -> None:
    attempts = Attempts(Retry(retries=5, timeout_seconds=60), NOBODY)
    with pytest.raises(Exception, match="full"):
        attempts.pause_after(_error(code))


async def test_a_server_that_never_comes_is_given_up_at_the_deadline() -> None:
    client = Client(NOBODY, retries=10**6, timeout_seconds=0.5)
    with client, pytest.raises(UnavailableError):
        client.list_models()
    async with AsyncClient(NOBODY, retries=10**6, timeout_seconds=0.5) as client_:
        with pytest.raises(UnavailableError):
            await client_.list_models()


def test_a_picture_that_is_too_large_for_the_server_is_not_sent_again() -> None:
    with (
        running_server("--max-message-bytes", "100000") as server,
        Client(server.address) as client,
        pytest.raises(InvalidArgumentError) as caught,
    ):
        client.classify(bytes(200_000))
    assert caught.value.code == "RESOURCE_EXHAUSTED"
    assert "100000" in str(caught.value)


async def test_pictures_are_answered_across_a_restart_of_the_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address, flags = f"127.0.0.1:{port}", ("--port", str(port))
    async with AsyncClient(address, retries=100, timeout_seconds=60) as client_:
        with Client(address, retries=100, timeout_seconds=60) as client:
            with running_server(*flags):
                expected = client.classify(DIGITS[0])
                await client_.classify(DIGITS[0])
            outcomes = client_.classify_many(DIGITS)
            first = asyncio.ensure_future(anext(outcomes))
            with running_server(*flags):
                assert client.classify(DIGITS[0]).predictions == expected.predictions
                assert (await first).error is None
                assert [each.error async for each in outcomes] == [None] * (len(DIGITS) - 1)
