"""With a memory budget models are loaded when they are asked for, and make room for each other."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from convlens.client import AsyncClient, Client, ServerError
from convlens.proto import inference_pb2, inference_pb2_grpc
from convlens.server.plan import Plan
from convlens.server.processors import processor_count
from convlens.server.providers import ModelSource
from convlens.server.session_memory import session_bytes
from convlens.server.tuned_file import Tuned, tuned_key, tuned_path
from tests.server.graphs import move_weights
from tests.server.tensors import raw_request
from tests.support import (
    BUNDLED,
    RunningServer,
    grey_png,
    running_server,
    save_brightness_model,
    save_deep_model,
)

WHITE = grey_png(255)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with three models of one size."""
    for name in ("one", "two", "three"):
        save_brightness_model(tmp_path / f"{name}.onnx", labels=[name, "dark"])
    return tmp_path


@pytest.fixture
def server(models: Path) -> Iterator[RunningServer]:
    """A server with room for two of them."""
    with running_server("--models", str(models), "--memory-budget", str(_budget(models))) as server:
        yield server


def _budget(models: Path) -> int:
    return round(2.5 * session_bytes(models / "one.onnx", Plan()))


def _label(client: Client, model: str) -> str:
    return client.classify(WHITE, model=model, top_k=1).predictions[0].label


def _states(client: Client) -> dict[str, str]:
    return {entry.name: entry.state for entry in client.list_models()}


def _loads(model: str, outcome: str) -> str:
    return f'convlens_model_loads_total{{model="{model}",outcome="{outcome}",version="1"}}'


def test_the_least_recently_used_model_makes_room(server: RunningServer) -> None:
    with Client(server.address) as client:
        assert set(_states(client).values()) == {"unloaded"}
        for name in ("one", "two", "one", "three"):
            assert _label(client, name) == name
        assert _states(client) == {"one": "ready", "two": "unloaded", "three": "ready"}
        # Each may stay as long as its loading took; the first one's takes longest.
        for name in ("one", "three"):
            series = f'convlens_model_load_seconds{{model="{name}",version="1"}}'
            time.sleep(server.metric(series))
        assert _label(client, "two") == "two"
        assert _states(client)["one"] == "unloaded"
    for model, loads, evictions in (("one", 1, 1), ("two", 2, 1), ("three", 1, 0)):
        assert server.metric(_loads(model, "ready")) == loads
        evicted = f'convlens_model_evictions_total{{model="{model}",version="1"}}'
        assert server.metric(evicted) == evictions
    resident = 'convlens_resident_bytes{model="%s",version="1"}'
    assert server.metric(resident % "one") == 0
    assert server.metric(resident % "two") == server.metric(resident % "three") > 0


def test_first_callers_share_one_loading(server: RunningServer) -> None:
    with Client(server.address) as client, ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: _label(client, "one"), range(16))) == {"one"}
    assert server.metric(_loads("one", "ready")) == 1


async def test_models_that_do_not_fit_together_lose_no_call(server: RunningServer) -> None:
    async with AsyncClient(server.address) as client:

        async def ask(name: str) -> list[str]:
            answers = [await client.classify(WHITE, model=name, top_k=1) for _ in range(20)]
            return [answer.predictions[0].label for answer in answers]

        names = ("one", "two", "three")
        for name, labels in zip(names, await asyncio.gather(*map(ask, names)), strict=True):
            assert labels == [name] * 20


async def test_however_many_call_no_more_is_loaded_than_fits(
    models: Path, server: RunningServer
) -> None:
    seen: list[float] = []
    done = asyncio.Event()

    async def watch() -> None:
        while not done.is_set():
            page = await asyncio.to_thread(server.page, "/metrics")
            resident = [it for it in page.splitlines() if it.startswith("convlens_resident_b")]
            seen.append(sum(float(line.rsplit(" ", 1)[1]) for line in resident))

    async with AsyncClient(server.address, retries=0) as client:

        async def ask(number: int) -> None:
            for turn in range(8):
                name = ("one", "two", "three")[(number + turn) % 3]
                answer = await client.classify(WHITE, model=name, top_k=1)
                assert answer.predictions[0].label == name

        watching = asyncio.create_task(watch())
        await asyncio.gather(*map(ask, range(16)))  # raises what any call raised
        done.set()
        await watching
    assert 0 < max(seen) <= _budget(models)


def test_a_model_that_is_not_loaded_yet_counts_as_ready(server: RunningServer) -> None:
    assert server.page("/readyz") == "ok\n"
    assert server.lines[-1].startswith("serving one, three, two on ")
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
        reply = health(health_pb2.HealthCheckRequest(service="one"))
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        inference = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert inference.ModelReady(inference_pb2.ModelReadyRequest(name="one")).ready
        index = inference.RepositoryIndex(inference_pb2.RepositoryIndexRequest()).models
        assert {entry.state for entry in index} == {"UNAVAILABLE"}
        named = inference.ModelMetadata(inference_pb2.ModelMetadataRequest(name="two"))
        assert named.inputs[0].name == "input"
        inference.RepositoryModelLoad(inference_pb2.RepositoryModelLoadRequest(model_name="three"))
        ready = inference.RepositoryIndex(inference_pb2.RepositoryIndexRequest(ready=True)).models
        assert [entry.name for entry in ready] == ["three", "two"]


@pytest.mark.parametrize("flags", [(), ("--memory-budget", "1GiB")])
def test_a_model_that_lacked_a_file_is_loaded_once_it_is_there(
    models: Path, flags: tuple[str, ...]
) -> None:
    weights = move_weights(models / "one.onnx")
    away = weights.rename(models / "away")
    request = inference_pb2.RepositoryModelLoadRequest(model_name="one")
    with (
        running_server("--models", str(models), *flags) as server,
        Client(server.address) as client,
        grpc.insecure_channel(server.address) as channel,
    ):
        with pytest.raises(ServerError, match="'one' version 1 is not ready"):
            _label(client, "one")
        away.rename(weights)
        inference_pb2_grpc.GRPCInferenceServiceStub(channel).RepositoryModelLoad(request)
        assert _label(client, "one") == "one"


def test_a_model_larger_than_the_budget_and_a_broken_one_say_so(models: Path) -> None:
    (models / "lenet5.onnx").write_bytes(BUNDLED.read_bytes())
    (models / "broken.onnx").write_bytes(b"\x08\x08 broken")
    budget = round(1.1 * session_bytes(models / "one.onnx", Plan()))
    flags = ("--models", str(models), "--memory-budget", f"{budget / 2**20}MiB")
    with running_server(*flags) as server:
        with Client(server.address) as client:
            with pytest.raises(ServerError, match="more than --memory-budget"):
                _label(client, "lenet5")
            with pytest.raises(ServerError, match="'broken' version 1 is not ready"):
                _label(client, "broken")
            assert _label(client, "one") == "one"
            assert _states(client)["lenet5"] == "failed"
        assert server.metric(_loads("broken", "failed")) == 1
        with grpc.insecure_channel(server.address) as channel:
            health = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
            reply = health(health_pb2.HealthCheckRequest(service="broken"))
            assert reply.status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_runs_at_the_same_time_and_their_batches_are_counted(tmp_path: Path) -> None:
    """As many batches as the tuned plan has going on at once: what they take was announced."""
    path = save_deep_model(tmp_path / "wide.onnx", layers=2)
    plan = Plan(threads=1, instances=4, max_batch_size=16)
    source = ModelSource.read(path)
    key = tuned_key(source.sha256, processor_count())
    Tuned(key, dict.fromkeys(("throughput", "latency"), plan)).write(tuned_path(path))
    flags = ("--models", str(tmp_path), "--memory-budget", "1GiB", "--tuned", "throughput")
    rows = np.zeros((plan.instances * plan.max_batch_size, 1, 32, 32), np.float32)
    with (
        running_server(*flags) as server,
        grpc.insecure_channel(server.address) as channel,
        ThreadPoolExecutor(2) as threads,
    ):
        before = server.metric("process_resident_memory_bytes")
        infer = inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        requests = [raw_request("wide", input=("FP32", rows))] * 4
        assert len(list(threads.map(infer, requests))) == 4
        taken = server.metric("process_resident_memory_bytes") - before
        counted = server.metric('convlens_resident_bytes{model="wide",version="1"}')
    assert counted == session_bytes(path, plan)
    # The runtime asks for memory in powers of two: up to 1.8 times the activations of this graph.
    assert 0.6 * counted < taken < 2 * counted
    assert taken > 2 * session_bytes(path, replace(plan, instances=1))
