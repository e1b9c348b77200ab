"""The Python clients against a real server: typed results, typed errors."""

from pathlib import Path

import pytest

from convlens.client import (
    AsyncClient,
    Client,
    ClosedError,
    DeadlineExceededError,
    InvalidArgumentError,
    NotFoundError,
    PictureError,
    Tls,
    UnavailableError,
)
from tests.support import DIGITS, RunningServer, grey_png

NOBODY = "127.0.0.1:1"


def test_a_picture_is_a_path_a_text_or_bytes(lenet5_server: RunningServer) -> None:
    picture = DIGITS[0]
    with Client(lenet5_server.address) as client:
        answers = [
            client.classify(picture),
            client.classify(str(picture)),
            client.classify(picture.read_bytes()),
        ]
    assert len({answer.predictions[0].label for answer in answers}) == 1
    assert answers[0].model == "lenet5"
    assert answers[0].version == "1"
    assert answers[0].timing.total_us > 0


async def test_both_clients_give_the_same_answers(lenet5_server: RunningServer) -> None:
    with Client(lenet5_server.address) as blocking:
        expected = [blocking.classify(picture).predictions for picture in DIGITS]
        models = blocking.list_models()
        description = blocking.describe_model()
    async with AsyncClient(lenet5_server.address) as client:
        actual = [(await client.classify(picture)).predictions for picture in DIGITS]
        assert await client.list_models() == models
        assert await client.describe_model("lenet5", "1") == description
    assert actual == expected


def test_a_missing_file_is_a_picture_error_and_nothing_is_sent(tmp_path: Path) -> None:
    with Client(NOBODY, retries=0) as client, pytest.raises(PictureError, match="No such file"):
        client.classify(tmp_path / "nothing.png")


def test_no_server_is_unavailable_and_the_address_is_named() -> None:
    with (
        Client(NOBODY, retries=0) as client,
        pytest.raises(UnavailableError, match=NOBODY) as caught,
    ):
        client.list_models()
    assert caught.value.code == "UNAVAILABLE"


async def test_errors_of_the_asyncio_client_are_the_same(lenet5_server: RunningServer) -> None:
    async with AsyncClient(lenet5_server.address) as client:
        with pytest.raises(InvalidArgumentError):
            await client.classify(b"nonsense")
        with pytest.raises(NotFoundError):
            await client.describe_model("nobody")
    async with AsyncClient(NOBODY, retries=0) as client:
        with pytest.raises(UnavailableError, match=NOBODY):
            await client.list_models()
        with pytest.raises(UnavailableError):
            await client.describe_model()


async def test_a_server_on_this_machine_is_not_asked_by_way_of_a_proxy(
    lenet5_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # where nobody listens
    address = lenet5_server.address.replace("127.0.0.1", "localhost")
    with Client(lenet5_server.address) as client:
        assert client.classify(DIGITS[0]).predictions
    async with AsyncClient(address) as asynchronous:
        assert (await asynchronous.classify(DIGITS[0])).predictions


def test_a_timeout_is_a_deadline_that_the_server_knows_of(slow_server: RunningServer) -> None:
    with (
        Client(slow_server.address, timeout_seconds=0.02) as client,
        pytest.raises(DeadlineExceededError),
    ):
        client.classify(grey_png(0))
    in_flight = 'convlens_in_flight{model="slow",version="1"}'
    slow_server.wait_for_metric(in_flight, lambda value: value == 0)


async def test_a_client_that_is_closed_says_so(lenet5_server: RunningServer) -> None:
    client = Client(lenet5_server.address)
    client.close()
    with pytest.raises(ClosedError, match="the client is closed"):
        client.classify(DIGITS[0])
    asynchronous = AsyncClient(lenet5_server.address)
    await asynchronous.close()
    with pytest.raises(ClosedError, match="the client is closed"):
        await asynchronous.classify(DIGITS[0])


def test_what_cannot_be_sent_is_an_invalid_argument() -> None:
    with Client(NOBODY, retries=0) as client:
        with pytest.raises(InvalidArgumentError, match="top_k -1"):
            client.classify(DIGITS[0], top_k=-1)
        with pytest.raises(InvalidArgumentError, match=r"model '\\udcff'"):
            client.describe_model("\udcff")
    for token in ("two\nlines", "caf\u00e9"):
        with pytest.raises(InvalidArgumentError, match="printable ASCII"):
            Client(NOBODY, token=token)


def test_certificates_that_grpc_could_not_use_are_refused(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("ca.pem", "own.pem", "own.key")]
    for file in files:
        file.write_text("no PEM")
    ca, certificate, key = files
    for half in ({"certificate": certificate}, {"key": key}):
        with pytest.raises(InvalidArgumentError, match="its key together"):
            Tls(**half)
    for tls in (Tls(ca), Tls(None, certificate, key)):
        with pytest.raises(InvalidArgumentError, match="not PEM"):
            Client(NOBODY, tls=tls)
