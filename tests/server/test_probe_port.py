"""Where the pages for those who watch are to be had."""

import resource
import socket
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from prometheus_client import CollectorRegistry

from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc as pb_grpc
from convlens.server.errors import StartError
from convlens.server.probe_port import HttpPort, Probes
from tests.support import running_server


@pytest.mark.parametrize("host", ["::1", "[::1]", "::", "localhost", "127.0.0.1"])
def test_any_host_is_listened_on(host: str) -> None:
    with HttpPort(host, 0, CollectorRegistry(), Probes()) as http:
        with urllib.request.urlopen(http.metrics_url, timeout=10) as page:
            assert page.status == 200
        if host == "::":
            port = int(http.metrics_url.split(":")[-1].split("/")[0])
            socket.create_connection(("127.0.0.1", port), 10).close()


def test_each_address_of_a_host_is_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of "localhost" where that is IPv4 and IPv6; one that is not here is left out."""

    def find(*_: Any, **__: Any) -> list[Any]:
        addresses = ("127.0.0.1", "127.0.0.2", "192.0.2.1")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (it, 0)) for it in addresses]

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", find)
        http = HttpPort("many", 0, CollectorRegistry(), Probes())
    with http:
        port = http.metrics_url.split(":")[-1]
        for address in ("127.0.0.1", "127.0.0.2"):
            with urllib.request.urlopen(f"http://{address}:{port}", timeout=10) as page:
                assert page.status == 200


def test_an_unknown_host_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(StartError, match=r"^--metrics-host nobody: Name or service not known"):
        HttpPort("nobody", 0, CollectorRegistry(), Probes())


def test_a_server_answers_on_ipv6_while_its_metrics_stay_on_an_address_of_their_own() -> None:
    with running_server("--host", "::1", "--metrics-host", "127.0.0.1") as server:
        assert server.address.startswith("[::1]:")
        assert server.metrics_url.startswith("http://127.0.0.1:")
        assert "convlens_model_info" in server.page("/metrics")
        with grpc.insecure_channel(server.address) as channel:
            models = pb_grpc.ClassifierStub(channel).ListModels(pb.ListModelsRequest()).models
    assert [model.name for model in models] == ["lenet5"]


def test_one_who_cannot_be_accepted_costs_nothing_while_he_waits() -> None:
    with running_server() as server:
        pid, port = server.process.pid, int(server.metrics_url.rsplit(":", 1)[1].split("/")[0])
        taken = max(int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir())
        former = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (taken + 1, former[1]))
        with ExitStack() as waiting:
            for _ in range(3):
                waiting.enter_context(socket.create_connection(("127.0.0.1", port)))
            before = _processor_seconds(pid)
            time.sleep(1.0)
            assert _processor_seconds(pid) - before < 0.3
        resource.prlimit(pid, resource.RLIMIT_NOFILE, former)
        assert "convlens_model_info" in server.page("/metrics")


def _processor_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system
