"""The benchmarks' own client of HTTP/2 says of each call what grpcio says."""

import asyncio

import grpc
import pytest
from connection import NO_DEADLINE, Call
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from sender import Sender, open_loop

from convlens.proto import classifier_pb2 as pb
from tests.support import DIGITS, RunningServer

METHOD = "/convlens.v1.Classifier/Classify"


async def _ask_all(address: str, messages: list[bytes], deadline_seconds: float) -> list[Call]:
    loop = asyncio.get_running_loop()
    async with Sender(address, METHOD, messages) as sender:
        ends: list[asyncio.Future[Call]] = [loop.create_future() for _ in messages]
        for number, end in enumerate(ends):
            sender.ask(number, deadline_seconds, end.set_result)
        await asyncio.gather(*ends)
        return sender.read()


async def _codes_of_grpcio(address: str, messages: list[bytes], seconds: float) -> list[str]:
    async with grpc.aio.insecure_channel(address) as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        calls = [method(message, timeout=seconds) for message in messages]
        return [(await call.code()).name for call in calls]


async def test_good_and_bad_requests_end_as_grpcio_says(lenet5_server: RunningServer) -> None:
    digit = DIGITS[0].read_bytes()
    requests = (
        pb.ClassifyRequest(image=digit),
        pb.ClassifyRequest(image=digit[:100]),
        pb.ClassifyRequest(image=digit, model="nobody's"),
        pb.ClassifyRequest(image=digit + bytes(200_000)),  # many frames
    )
    messages = [request.SerializeToString() for request in requests]
    calls = await _ask_all(lenet5_server.address, messages, 30)
    codes = [call.code for call in calls]
    assert codes == await _codes_of_grpcio(lenet5_server.address, messages, 30)
    assert codes[:3] == ["OK", "INVALID_ARGUMENT", "NOT_FOUND"]
    assert not any(call.is_late for call in calls)
    assert 0 < (calls[1].left_us or 0) <= 30e6  # the same when refused in the turn that it came in


async def test_a_call_is_given_up_at_its_deadline(slow_server: RunningServer) -> None:
    message = pb.ClassifyRequest(image=DIGITS[0].read_bytes()).SerializeToString()
    (call,) = await _ask_all(slow_server.address, [message], 0.02)
    assert call.code == "DEADLINE_EXCEEDED"
    assert await _codes_of_grpcio(slow_server.address, [message], 0.02) == [call.code]


class _Narrow(asyncio.Protocol):
    """A server that takes little at a time; h2 hangs up on a client that sends more."""

    def __init__(self, most_at_once: list[int]) -> None:
        self._most_at_once, self._open = most_at_once, 0
        self._h2 = H2Connection(H2Configuration(client_side=False))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._h2.initiate_connection()
        values: dict[SettingCodes | int, int] = {
            SettingCodes.MAX_CONCURRENT_STREAMS: 2,
            SettingCodes.INITIAL_WINDOW_SIZE: 60_000,
        }
        self._h2.update_settings(values)
        self._h2.ping(b"in step!")
        self._transport.write(self._h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self._h2.receive_data(data):
            if isinstance(event, RequestReceived):
                self._open += 1
                self._most_at_once.append(self._open)
            elif isinstance(event, DataReceived):
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                asyncio.get_running_loop().call_later(0.01, self._answer, event.stream_id)
            elif isinstance(event, StreamReset):
                self._open -= 1
        self._transport.write(self._h2.data_to_send())

    def _answer(self, stream: int) -> None:
        self._open -= 1
        self._h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        self._h2.send_data(stream, bytes(5))
        self._h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        self._transport.write(self._h2.data_to_send())


async def test_requests_wait_for_what_the_server_takes() -> None:
    most_at_once: list[int] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: _Narrow(most_at_once), "127.0.0.1", 0
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        calls = await _ask_all(f"127.0.0.1:{port}", [bytes(20_000)] * 24, NO_DEADLINE)
    assert [call.code for call in calls] == ["OK"] * 24
    assert max(most_at_once) <= 2
    assert calls[-1].waited_seconds > 0.01


async def test_an_open_loop_asks_at_its_rate(lenet5_server: RunningServer) -> None:
    message = pb.ClassifyRequest(image=DIGITS[0].read_bytes()).SerializeToString()
    async with Sender(lenet5_server.address, METHOD, [message]) as sender:
        await open_loop(sender, 100, 1, 0.5)
        calls = sender.read()
    assert 70 <= len(calls) <= 130
    assert all(call.ended_at for call in calls)


async def test_a_request_larger_than_a_call_may_be_is_an_error_at_once(
    lenet5_server: RunningServer,
) -> None:
    with pytest.raises((ValueError, ConnectionError)):
        await _ask_all(lenet5_server.address, [bytes(2 << 20)], 5)
