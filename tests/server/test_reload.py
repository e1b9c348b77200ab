"""Models come, change and go while requests are answered, and no call is lost."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from convlens.client import AsyncClient, Client, InvalidArgumentError, ModelSummary, NotFoundError
from convlens.server.providers import ModelSource
from tests.server.graphs import move_weights, save_graph
from tests.support import RunningServer, grey_png, running_server, save_brightness_model

WHITE = grey_png(255)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, RunningServer]]:
    """A folder, and a server that follows it."""
    folder = tmp_path_factory.mktemp("models")
    save_brightness_model(folder / "light.onnx")
    with running_server("--models", str(folder), "--watch") as server:
        yield folder, server


@pytest.fixture
def models(watched: tuple[Path, RunningServer]) -> Path:
    """The folder, and nothing in it but one model that calls white pictures "bright"."""
    folder, server = watched
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "light.onnx":
            path.unlink()
    _replace(folder / "light.onnx", "bright", "dark")
    with Client(server.address, retries=0) as client:
        _wait(lambda: list(_summaries(client)) == [("light", "1")], "the others' removal")
        _wait(lambda: _label(client) == "bright", "the first model")
        _wait(lambda: not _summaries(client)["light", "1"].reason, "its being well")
    return folder


@pytest.fixture
def server(watched: tuple[Path, RunningServer], models: Path) -> RunningServer:  # noqa: ARG001
    """The server, once it has noticed."""
    return watched[1]


def _replace(path: Path, *labels: str) -> None:
    """Put a model with other labels in a file's place at once, as `mv` does."""
    fresh = path.with_suffix(".part")
    save_brightness_model(fresh, labels=list(labels))
    os.replace(fresh, path)  # noqa: PTH105 - the point is the system call


def _wait(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"it never came: {what}"
        time.sleep(0.01)


def _label(client: Client, model: str = "", version: str = "") -> str:
    return client.classify(WHITE, model=model, version=version, top_k=1).predictions[0].label


def _summaries(client: Client) -> dict[tuple[str, str], ModelSummary]:
    return {(entry.name, entry.version): entry for entry in client.list_models()}


def test_a_file_that_changes_takes_the_place_of_the_old_one(
    models: Path, server: RunningServer
) -> None:
    with Client(server.address, retries=0) as client:
        assert _label(client) == "bright"
        _replace(models / "light.onnx", "day", "night")
        _wait(lambda: _label(client) == "day", "the new labels")
    page = server.page("/metrics")
    assert page.count("\nconvlens_model_info{") == 1


def test_a_change_of_the_weights_beside_a_file_is_one_of_the_model(
    models: Path, server: RunningServer
) -> None:
    path, other = models / "light.onnx", models / "other.part"
    save_brightness_model(other, slope=-20.0)
    with Client(server.address, retries=0) as client:
        save_brightness_model(path)
        weights, others = move_weights(path), move_weights(other)
        _wait(lambda: ModelSource.read(path).sha256 in server.page("/metrics"), "its hash")
        assert _label(client) == "bright"
        assert client.describe_model("light").analysis_json
        own_bytes = path.read_bytes()
        others.replace(weights)
        _wait(lambda: _label(client) == "dark", "the new weights")
        _wait(lambda: ModelSource.read(path).sha256 in server.page("/metrics"), "its new hash")
        assert path.read_bytes() == own_bytes
        weights.rename(others)
        _wait(lambda: bool(_summaries(client)["light", "1"].reason), "the reason")
        assert f"{weights}: No such file" in _summaries(client)["light", "1"].reason
        assert _label(client) == "dark"
        others.rename(weights)
        _wait(lambda: not _summaries(client)["light", "1"].reason, "its being well again")


def test_a_file_that_comes_is_loaded_and_one_that_goes_is_unloaded(
    models: Path, server: RunningServer
) -> None:
    with Client(server.address, retries=0) as client:
        save_brightness_model(models / "second.onnx", labels=["white", "black"])
        _wait(lambda: ("second", "1") in _summaries(client), "the second model")
        _wait(lambda: _summaries(client)["second", "1"].state == "ready", "its being ready")
        assert _label(client, "second") == "white"
        with pytest.raises(InvalidArgumentError):
            client.classify(b"no picture", model="second")
        assert 'convlens_rejected_total{model="second"' in server.page("/metrics")
        (models / "second.onnx").unlink()
        _wait(lambda: ("second", "1") not in _summaries(client), "its removal")
        with pytest.raises(NotFoundError, match="'second': there are light"):
            _label(client, "second")
    assert 'model="second"' not in server.page("/metrics")


def test_a_broken_new_file_leaves_the_old_one_serving_and_is_reported(
    models: Path, server: RunningServer
) -> None:
    with Client(server.address, retries=0) as client:
        (models / "light.onnx").write_bytes(b"\x08\x08 broken")
        _wait(lambda: bool(_summaries(client)["light", "1"].reason), "the reason")
        summary = _summaries(client)["light", "1"]
        assert summary.state == "ready"
        assert "its new file is not served, the former one is" in summary.reason
        assert _label(client) == "bright"
        assert 'convlens_model_failed{model="light",version="1"} 1.0' in server.page("/metrics")
        _replace(models / "light.onnx", "day", "night")
        _wait(lambda: _label(client) == "day", "the mended file")
        assert _summaries(client)["light", "1"].reason == ""
        assert "convlens_model_failed{" not in server.page("/metrics")


HAZARDS = [
    onnx.helper.make_node("GatherND", ["x", "ints"], ["y"], batch_dims=-(2**31)),
    onnx.helper.make_node("Sum", ["x", "", "x"], ["y"]),
    onnx.helper.make_node("RandomNormalLike", ["x"], ["y"], scale=-1.0),
    onnx.helper.make_node("RandomUniformLike", ["x"], ["y"], low=2.0),
]


@pytest.mark.parametrize("hazard", HAZARDS, ids=lambda node: node.op_type)
def test_a_new_file_that_would_crash_the_runtime_leaves_the_old_one_serving(
    models: Path, server: RunningServer, hazard: onnx.NodeProto
) -> None:
    fresh = models / "light.part"
    row = (onnx.TensorProto.FLOAT, (1, 3, 8))
    save_graph(fresh, [hazard], {"x": row}, {"y": row}, {"ints": np.array([1, -1, 3])})
    opened = "import onnxruntime as ort, sys; ort.InferenceSession(sys.argv[1]).run(None, {'x': x})"
    zeros = "import numpy as np; x = np.zeros((1, 3, 8), np.float32); "
    command = [sys.executable, "-c", zeros + opened, str(fresh)]
    alone = subprocess.run(command, capture_output=True, check=False)
    assert alone.returncode < 0  # killed by a signal: else there is nothing to be kept from
    with Client(server.address, retries=0) as client:
        os.replace(fresh, models / "light.onnx")  # noqa: PTH105 - as `_replace`
        _wait(lambda: bool(_summaries(client)["light", "1"].reason), "the reason")
        reason = _summaries(client)["light", "1"].reason
        assert f"the runtime would not survive {hazard.op_type} y" in reason
        assert _label(client) == "bright"


def test_a_new_version_answers_at_once_and_the_old_one_on_request(
    models: Path, server: RunningServer
) -> None:
    with Client(server.address, retries=0) as client:
        for version, label in (("2", "two"), ("10", "ten")):
            folder = models / "light" / version
            folder.mkdir(parents=True)
            save_brightness_model(folder / "model.onnx", labels=[label, "dark"])
        _wait(lambda: len(_summaries(client)) == 3, "the versions")
        _wait(lambda: _label(client) == "ten", "the highest version")
        assert _label(client, "light", "1") == "bright"
        assert _label(client, "light", "2") == "two"
        shutil.rmtree(models / "light" / "10")
        _wait(lambda: _label(client) == "two", "the version before")


def test_health_follows_the_models(models: Path, server: RunningServer) -> None:
    with (
        grpc.insecure_channel(server.address) as channel,
        Client(server.address, retries=0) as client,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(  # type: ignore[attr-defined]
            health_pb2.HealthCheckRequest(service="light")
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        (models / "light.onnx").unlink()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(OSError, match="503"):
            server.page("/readyz")
        with pytest.raises(NotFoundError, match="no model is loaded"):
            _label(client)
        save_brightness_model(models / "light.onnx")
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        _wait(lambda: server.page("/readyz") == "ok\n", "being ready again")


async def test_no_call_is_lost_while_a_model_is_replaced_again_and_again(
    models: Path, server: RunningServer
) -> None:
    labels = [f"label {number}" for number in range(10)]
    seen: list[str] = []
    done = asyncio.Event()

    async def call(client: AsyncClient) -> None:
        while not done.is_set():
            answer = await client.classify(WHITE, top_k=1)
            seen.append(answer.predictions[0].label)

    async with AsyncClient(server.address, retries=0) as client:
        callers = [asyncio.create_task(call(client)) for _ in range(8)]
        for label in labels:
            await asyncio.to_thread(_replace, models / "light.onnx", label, "dark")
            await asyncio.to_thread(_wait, partial(seen.__contains__, label), label)
        done.set()
        await asyncio.gather(*callers)  # raises what any call raised
    in_order = list(dict.fromkeys(seen))
    assert in_order == ["bright", *labels]


def test_without_watch_nothing_changes_until_asked(tmp_path: Path) -> None:
    save_brightness_model(tmp_path / "light.onnx")
    with (
        running_server("--models", str(tmp_path)) as server,
        Client(server.address, retries=0) as client,
    ):
        save_brightness_model(tmp_path / "second.onnx")
        _replace(tmp_path / "light.onnx", "day", "night")
        time.sleep(1.0)  # longer than a watcher would take
        assert _label(client) == "bright"
        assert len(_summaries(client)) == 1


def test_an_alias_stands_for_a_model_or_one_of_its_versions(tmp_path: Path) -> None:
    save_brightness_model(tmp_path / "light.onnx")
    folder = tmp_path / "light" / "2"
    folder.mkdir(parents=True)
    save_brightness_model(folder / "model.onnx", labels=["two", "dark"])
    aliases = ("--alias", "stable=light@1", "--alias", "newest=light")
    with (
        running_server("--models", str(tmp_path), *aliases) as server,
        Client(server.address, retries=0) as client,
    ):
        assert _label(client, "stable") == "bright"
        assert _label(client, "newest") == "two"
        assert _label(client, "newest", "1") == "bright"
        with pytest.raises(NotFoundError, match="there are light, newest, stable"):
            _label(client, "other")
