"""Which addresses of its host a server listens on."""

import socket
from typing import Any

import pytest

from convlens.server.errors import StartError
from convlens.server.http2 import GrpcServer, Limits
from convlens.server.port import open_port
from convlens.server.settings import Settings

HERE = (socket.AF_INET, "127.0.0.1")
ALSO_HERE = (socket.AF_INET, "127.0.0.2")
DOCUMENTATION = (socket.AF_INET6, "2001:db8::1")  # which no machine has


def _resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[int, str]) -> None:
    """Have every host name resolve to these."""

    def resolve(_host: str, port: int, **_: Any) -> list[Any]:
        return [(family, socket.SOCK_STREAM, 6, "", (host, port)) for family, host in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


async def _open(port: int) -> str:
    server = GrpcServer(lambda _: None, Limits(1 << 20, 8192))
    try:
        return open_port(server, Settings(host="localhost", port=port))
    finally:
        await server.stop(0)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
    return number


@pytest.mark.parametrize("choose", [True, False])
async def test_an_address_that_is_not_here_does_not_keep_the_others_from_being_used(
    monkeypatch: pytest.MonkeyPatch, choose: bool
) -> None:
    port = 0 if choose else _free_port()
    _resolve_to(monkeypatch, DOCUMENTATION, HERE, HERE)
    address = await _open(port)
    assert address.startswith("localhost:")
    assert choose or address == f"localhost:{port}"


async def test_a_port_that_is_chosen_is_the_same_on_all_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _resolve_to(monkeypatch, HERE, ALSO_HERE)
    server = GrpcServer(lambda _: None, Limits(1 << 20, 8192))
    address = open_port(server, Settings(host="localhost", port=0))
    monkeypatch.undo()
    try:
        for _, host in (HERE, ALSO_HERE):
            socket.create_connection((host, int(address.rpartition(":")[2]))).close()
    finally:
        await server.stop(0)


async def test_a_host_that_is_not_here_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    _resolve_to(monkeypatch, DOCUMENTATION)
    with pytest.raises(StartError, match="cannot listen on localhost:0"):
        await _open(0)


async def test_a_host_that_nobody_knows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(StartError, match="--host localhost: Name or service not known"):
        await _open(0)


async def test_a_port_that_somebody_listens_on_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"cannot listen on localhost:{port}: it is in use"):
            await _open(port)
