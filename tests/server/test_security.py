"""TLS, mutual TLS and tokens: who is let in, who is not, and what they are told."""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from convlens.client import (
    AccessError,
    AsyncClient,
    Client,
    InvalidArgumentError,
    Tls,
    UnavailableError,
)
from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc as pb_grpc
from tests.support import grey_png, running_server, save_brightness_model

WHITE = grey_png(255)


class Files:
    """Certificates as PEM files in a folder: a server's, a client's, and who signed both."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        self.issue()
        client = self.ca.issue_cert("client@example.org")
        self.client_certificate, self.client_key = folder / "client.pem", folder / "client.key"
        client.cert_chain_pems[0].write_to_path(str(self.client_certificate))
        client.private_key_pem.write_to_path(str(self.client_key))

    def issue(self) -> None:
        """Write a new certificate for the server."""
        fresh = self.ca.issue_cert("localhost", "127.0.0.1")
        fresh.cert_chain_pems[0].write_to_path(str(self.certificate))
        fresh.private_key_pem.write_to_path(str(self.key))

    @property
    def flags(self) -> tuple[str, ...]:
        """The server's flags."""
        return ("--tls-cert", str(self.certificate), "--tls-key", str(self.key))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A certificate authority of the test's own."""
    return Files(tmp_path)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Two models."""
    folder = tmp_path / "models"
    folder.mkdir()
    save_brightness_model(folder / "open.onnx")
    save_brightness_model(folder / "closed.onnx")
    return folder


async def test_tls_answers_those_who_trust_the_certificate_and_nobody_else(files: Files) -> None:
    with running_server(*files.flags) as server:
        with Client(server.address, tls=Tls(ca=files.ca_file)) as client:
            assert client.list_models()[0].name == "lenet5"
        async with AsyncClient(server.address, tls=Tls(ca=files.ca_file)) as asynchronous:
            assert (await asynchronous.list_models())[0].name == "lenet5"
        for tls in (None, Tls()):
            with (
                Client(server.address, tls=tls, retries=0) as client,
                pytest.raises(UnavailableError),
            ):
                client.list_models()


def test_mutual_tls_wants_a_certificate_of_the_client(files: Files) -> None:
    with running_server(*files.flags, "--tls-client-ca", str(files.ca_file)) as server:
        known = Tls(files.ca_file, files.client_certificate, files.client_key)
        with Client(server.address, tls=known) as client:
            assert client.list_models()
        with (
            Client(server.address, tls=Tls(files.ca_file), retries=0) as client,
            pytest.raises(UnavailableError),
        ):
            client.list_models()


def test_a_certificate_that_is_replaced_is_used_without_a_restart(files: Files) -> None:
    with running_server(*files.flags) as server:
        with Client(server.address, tls=Tls(files.ca_file)) as client:
            assert client.list_models()
        other = trustme.CA()
        files.ca = other
        files.issue()
        other.cert_pem.write_to_path(str(files.ca_file))
        with Client(server.address, tls=Tls(files.ca_file)) as client:
            assert client.list_models()


def test_a_certificate_that_is_broken_leaves_the_former_one(files: Files) -> None:
    credentials = grpc.ssl_channel_credentials(files.ca_file.read_bytes())

    def handshake() -> None:
        own_connection = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(server.address, credentials, own_connection) as channel:
            assert pb_grpc.ClassifierStub(channel).ListModels(pb.ListModelsRequest()).models

    with running_server(*files.flags) as server:
        handshake()
        for broken in (b"", b"-----BEGIN CERTIFICATE-----\nnonsense\n"):
            files.certificate.write_bytes(broken)
            handshake()
            handshake()
        files.certificate.unlink()
        handshake()
        files.issue()
        handshake()
        os.kill(server.process.pid, 15)
        _, log = server.process.communicate(timeout=30)
    assert log.count("TLS: not a certificate and its key") == 2
    assert log.count(f"TLS: {files.certificate}: No such file") == 1
    assert log.count("the former ones stay") == 3
    assert log.count("the certificates were read again") == 1


@pytest.mark.parametrize("flag", ["--tls-cert", "--tls-key"])
def test_half_a_certificate_is_refused_at_start(files: Files, flag: str) -> None:
    with (
        pytest.raises(AssertionError, match="TLS needs both --tls-cert and --tls-key"),
        running_server(flag, str(files.certificate)),
    ):
        pass


def _wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


def _tokens(folder: Path) -> Path:
    def sha256(token: str) -> str:
        return hashlib.sha256(token.encode()).hexdigest()

    file = folder / "tokens.toml"
    file.write_text(
        f'[everything]\nsha256 = "{sha256("all-of-it")}"\nadmin = true\n'
        f'[one]\nsha256 = "{sha256("one-model")}"\nmodels = ["open"]\n'
    )
    return file


def test_a_token_opens_the_models_that_it_names(models: Path, tmp_path: Path) -> None:
    flags = ("--models", str(models), "--tokens", str(_tokens(tmp_path)))
    with running_server(*flags) as server:
        with Client(server.address, token="one-model") as client:
            assert client.classify(WHITE, model="open").predictions
            with pytest.raises(AccessError, match="does not open model 'closed'") as caught:
                client.classify(WHITE, model="closed")
            assert caught.value.code == "PERMISSION_DENIED"
            assert [entry.name for entry in client.list_models()] == ["open"]
            with pytest.raises(InvalidArgumentError, match=r"there are open$"):
                client.classify(WHITE)
        with Client(server.address, token="all-of-it") as client:
            assert client.classify(WHITE, model="closed").predictions
        for token, said in ((None, "send a token"), ("wrong", "not known")):
            with Client(server.address, token=token) as client:
                with pytest.raises(AccessError, match=said) as caught:
                    client.list_models()
                assert caught.value.code == "UNAUTHENTICATED"


def test_tokens_that_change_count_without_a_restart_and_a_broken_file_changes_nothing(
    models: Path, tmp_path: Path
) -> None:
    file = _tokens(tmp_path)
    flags = ("--models", str(models), "--tokens", str(file))
    with running_server(*flags) as server:

        def opens(token: str) -> bool:
            with Client(server.address, token=token) as client:
                try:
                    return bool(client.list_models())
                except AccessError:
                    return False

        assert opens("one-model")
        assert not opens("a-new-one")
        digest = hashlib.sha256(b"a-new-one").hexdigest()
        file.write_text(f'[new]\nsha256 = "{digest}"\n')
        _wait(lambda: opens("a-new-one"))
        assert not opens("one-model")
        file.write_text("nonsense")
        time.sleep(1.5)  # longer than the file is left alone
        assert opens("a-new-one")
        assert not opens("one-model")
        os.kill(server.process.pid, 15)
        _, log = server.process.communicate(timeout=30)
    assert "1 tokens were read again" in log
    assert log.count("not TOML") == 1
    assert "the former tokens stay" in log


def test_metadata_over_the_limit_is_refused_with_a_reason(models: Path) -> None:
    metadata = (("x-long", "x" * 20_000),)
    for flags, refused in (((), True), (("--max-metadata-bytes", "65536"), False)):
        with (
            running_server("--models", str(models), *flags) as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            list_models = pb_grpc.ClassifierStub(channel).ListModels
            if not refused:
                assert list_models(pb.ListModelsRequest(), metadata=metadata).models
                continue
            with pytest.raises(grpc.RpcError) as caught:
                list_models(pb.ListModelsRequest(), metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "metadata" in (caught.value.details() or "")


def test_probes_need_no_token(models: Path, tmp_path: Path) -> None:
    flags = ("--models", str(models), "--tokens", str(_tokens(tmp_path)))
    with running_server(*flags) as server:
        with grpc.insecure_channel(server.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            check = stub.Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest()
            )
            assert check.status == health_pb2.HealthCheckResponse.SERVING
        assert server.page("/readyz") == "ok\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[a]\nsha256 = "short"', "a.sha256"),
        ("[a]\nadmin = true", "a.sha256: Field required"),
        ("nonsense", "not TOML"),
    ],
)
def test_a_wrong_tokens_file_is_refused_at_start(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(content)
    with (
        pytest.raises(AssertionError, match=said),
        running_server("--tokens", str(file)),
    ):
        pass


def test_secrets_are_not_logged(models: Path, tmp_path: Path) -> None:
    flags = ("--models", str(models), "--tokens", str(_tokens(tmp_path)), "--access-log", "1")
    with running_server(*flags) as server:
        for token in ("all-of-it", "a-wrong-one"):
            with Client(server.address, token=token) as client, contextlib.suppress(AccessError):
                client.list_models()
        os.kill(server.process.pid, 15)
        _, log = server.process.communicate(timeout=30)
    assert "all-of-it" not in log
    assert "a-wrong-one" not in log


def test_listening_beyond_loopback_without_tls_is_warned_of(files: Files) -> None:
    for flags, warned in (((), True), (files.flags, False)):
        with running_server("--host", "0.0.0.0", *flags) as server:
            os.kill(server.process.pid, 15)
            _, log = server.process.communicate(timeout=30)
        assert ("without TLS" in log) is warned
