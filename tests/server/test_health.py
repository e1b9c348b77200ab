"""Health over gRPC, and who watches it without taking what is sent."""

import signal
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from convlens.proto import inference_pb2 as pb
from tests.server.http2.peer import connected, framed
from tests.server.tensors import Stub
from tests.support import RunningServer, running_server, save_brightness_model

WATCH = "/grpc.health.v1.Health/Watch"


async def test_one_who_watches_and_takes_nothing_holds_up_nobody(tmp_path: Path) -> None:
    save_brightness_model(tmp_path / "light.onnx")
    with running_server("--models", str(tmp_path), "--grace", "1") as server:
        async with connected(int(server.address.rpartition(":")[2]), window=0) as peer:
            for service in ("", "light"):
                request = health_pb2.HealthCheckRequest(service=service)
                stream = peer.open(WATCH, framed(request.SerializeToString()))
                await peer.until(lambda stream=stream: bool(peer.answers[stream].headers))  # type: ignore[misc]
            async with grpc.aio.insecure_channel(server.address) as channel:
                unload = Stub(channel).RepositoryModelUnload
                await unload(pb.RepositoryModelUnloadRequest(model_name="light"), timeout=10)
            server.process.send_signal(signal.SIGTERM)
            _, log = server.process.communicate(timeout=10)
    assert server.process.returncode == 0
    assert "Traceback" not in log


def test_a_change_is_told_to_those_who_watch(tmp_path: Path) -> None:
    save_brightness_model(tmp_path / "light.onnx")
    with (
        running_server("--models", str(tmp_path)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="light"), timeout=30)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        Stub(channel).RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="light"))
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_server_that_stops_tells_those_who_watch_and_does_not_wait_for_them() -> None:
    with (
        running_server("--grace", "60") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=""), timeout=60)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        server.process.send_signal(signal.SIGTERM)
        assert [response.status for response in watch] == [
            health_pb2.HealthCheckResponse.NOT_SERVING
        ]
        assert server.process.wait(timeout=20) == 0


def test_services_are_not_listed_to_those_without_a_token(lenet5_server: RunningServer) -> None:
    with grpc.insecure_channel(lenet5_server.address) as channel:
        ask: Any = channel.unary_unary("/grpc.health.v1.Health/List")
        with pytest.raises(grpc.RpcError) as caught:
            ask(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
