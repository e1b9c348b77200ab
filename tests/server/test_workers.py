"""Several processes behind one port: one may die, all do as they are told, and count together."""

import asyncio
import itertools
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from convlens.client import Client, UnavailableError
from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc as pb_grpc
from convlens.proto import inference_pb2, inference_pb2_grpc
from tests.support import (
    DIGITS,
    RunningServer,
    grey_png,
    running_server,
    save_brightness_model,
    save_slow_model,
    serve_command,
)

WHITE = grey_png(255)
DIGIT = DIGITS[0].read_bytes()

# Each channel has a connection of its own, and one of the workers takes it.
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with two models."""
    folder = tmp_path / "models"
    folder.mkdir()
    save_brightness_model(folder / "light.onnx")
    save_brightness_model(folder / "other.onnx")
    return folder


@pytest.fixture
def server(models: Path) -> Iterator[RunningServer]:
    """A server with two workers."""
    with running_server("--models", str(models), "--workers", "2") as server:
        yield server


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningServer]:
    """A server of digits with two workers, for tests that leave it with two that are ready."""
    with running_server("--workers", "2") as server:
        yield server


@pytest.fixture(scope="module")
def hung(shared: RunningServer) -> int:
    """A worker that hangs from now on: it takes the supervisor ten seconds to be sure."""
    shared.wait_for_metric("convlens_workers", lambda value: value == 2)
    pid = _workers(shared)[0]
    os.kill(pid, signal.SIGSTOP)
    return pid


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


def _workers(server: RunningServer) -> list[int]:
    return _children(server.process.pid)


def _wait(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"it never came: {what}"
        time.sleep(0.01)


@contextmanager
def _connections(server: RunningServer, count: int = 16) -> "Iterator[list[grpc.Channel]]":
    """So many that each of two workers has some."""
    channels = [grpc.insecure_channel(server.address, OWN_CONNECTION) for _ in range(count)]
    try:
        yield channels
    finally:
        for channel in channels:
            channel.close()


def _names(channel: grpc.Channel) -> set[str]:
    models = pb_grpc.ClassifierStub(channel).ListModels(pb.ListModelsRequest()).models
    return {model.name for model in models if model.state == pb.STATE_READY}


def _handled(server: RunningServer, method: str) -> float:
    return server.metric(
        f'grpc_server_handled_total{{grpc_code="OK",grpc_method="{method}",'
        'grpc_service="convlens.v1.Classifier",grpc_type="unary_unary"}'
    )


def _log_after_stop(server: RunningServer) -> str:
    server.process.send_signal(signal.SIGTERM)
    return str(server.process.communicate(timeout=60)[1])


def _open_connections(pid: int, port: int) -> int:
    """How many connections to a port a process holds."""
    return sum(
        one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port
        for one in psutil.Process(pid).net_connections("tcp4")
    )


def test_connections_are_spread_over_the_workers(server: RunningServer) -> None:
    count, port = 12, int(server.address.rpartition(":")[2])
    with _connections(server, count) as channels:
        for channel in channels:
            grpc.channel_ready_future(channel).result(timeout=30)
        shares = [_open_connections(pid, port) for pid in _workers(server)]
    assert sum(shares) == count
    assert max(shares) <= 2 * min(shares)


def test_metrics_are_those_of_all_workers_together(shared: RunningServer) -> None:
    before = _handled(shared, "ListModels")
    with _connections(shared) as channels:
        for channel in channels:
            _names(channel)
    assert _handled(shared, "ListModels") - before == 16
    page = shared.page("/metrics")
    labels = 'grpc_method="ListModels",grpc_service="convlens.v1.Classifier"'
    count = f'grpc_server_handling_seconds_count{{{labels},grpc_type="unary_unary"}}'
    assert shared.metric(count) == _handled(shared, "ListModels")
    infos = [line for line in page.splitlines() if line.startswith("convlens_model_info{")]
    assert [line.rsplit(" ", 1)[1] for line in infos] == ["1.0"]
    assert shared.metric("convlens_workers") == 2


def test_what_a_dead_worker_had_counted_stays_counted(shared: RunningServer) -> None:
    with _connections(shared) as channels:
        for channel in channels:
            _names(channel)
    counted, deaths = _handled(shared, "ListModels"), shared.metric("convlens_worker_deaths_total")
    assert counted >= 16
    os.kill(_workers(shared)[0], signal.SIGKILL)
    shared.wait_for_metric("convlens_worker_deaths_total", lambda value: value == deaths + 1)
    assert _handled(shared, "ListModels") == counted
    shared.wait_for_metric("convlens_workers", lambda value: value == 2)
    assert _handled(shared, "ListModels") == counted


async def test_a_worker_killed_under_load_takes_with_it_the_calls_in_flight_and_no_other(
    shared: RunningServer,
) -> None:
    done = asyncio.Event()
    broken: set[int] = set()  # a client may try twice before it knows that its connection is gone

    async def call_until_done(number: int) -> int:
        answered = 0
        async with grpc.aio.insecure_channel(shared.address, OWN_CONNECTION) as channel:
            classify: Any = pb_grpc.ClassifierStub(channel).Classify
            request = pb.ClassifyRequest(image=DIGIT, top_k=1)
            while not done.is_set():
                try:
                    answer = await classify(request, timeout=30, wait_for_ready=True)
                except grpc.aio.AioRpcError as error:
                    assert error.code() is grpc.StatusCode.UNAVAILABLE, error  # noqa: PT017
                    broken.add(number)
                else:
                    assert answer.predictions[0].label == DIGITS[0].name[0]
                    answered += 1
        return answered

    shared.wait_for_metric("convlens_workers", lambda value: value == 2)
    callers = [asyncio.create_task(call_until_done(number)) for number in range(12)]
    port = int(shared.address.rpartition(":")[2])
    before = _workers(shared)

    def connections() -> list[int]:
        return [_open_connections(pid, port) for pid in before]

    await asyncio.to_thread(_wait, lambda: sum(connections()) == 12, "all connections")
    killed, second = before
    its_connections = connections()[0]
    os.kill(killed, signal.SIGKILL)
    await asyncio.to_thread(_wait, lambda: len(set(_workers(shared)) - set(before)) == 1, "it")
    await asyncio.to_thread(shared.wait_for_metric, "convlens_workers", lambda value: value == 2)
    done.set()
    answered = await asyncio.gather(*callers)  # raises what any call raised
    assert min(answered) > 0
    assert 0 < len(broken) <= its_connections
    assert second in _workers(shared)
    assert shared.process.stderr is not None
    replaced = f"(process {killed}) is replaced: killed by SIGKILL"
    assert any(replaced in line for line in shared.process.stderr)


def test_a_worker_that_cannot_be_replaced_yet_leaves_the_others_at_work(
    server: RunningServer,
) -> None:
    """As where the system has no process to spare; here the supervisor may open no file."""
    supervisor = server.process.pid
    former = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (3, former[1]))
    os.kill(_workers(server)[0], signal.SIGKILL)
    assert server.process.stderr is not None
    refused = "cannot be started now: [Errno 24] Too many open files"
    assert any(refused in line for line in server.process.stderr)
    with Client(server.address) as client:
        assert client.classify(WHITE, model="light").predictions
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, former)
    server.wait_for_metric("convlens_workers", lambda value: value == 2)


def test_sigterm_finishes_what_is_in_flight_in_every_worker(tmp_path: Path) -> None:
    save_slow_model(tmp_path / "slow.onnx", seconds=0.6)
    flags = ("--models", str(tmp_path), "--workers", "2", "--max-batch-size", "1")
    with running_server(*flags, "--grace", "60") as server, _connections(server, 6) as channels:
        calls = [
            pb_grpc.ClassifierStub(channel).Classify.future(pb.ClassifyRequest(image=WHITE))
            for channel in channels
        ]
        in_flight = 'convlens_in_flight{model="slow",version="1"}'
        server.wait_for_metric(in_flight, lambda value: value == len(calls))
        log = _log_after_stop(server)
        assert [len(call.result(1).predictions) for call in calls] == [2] * 6
        assert server.process.returncode == 0
        assert "Traceback" not in log


def test_signals_to_the_whole_group_stop_it_gently_and_a_second_one_at_once(
    tmp_path: Path,
) -> None:
    """As systemd and a terminal send them: to supervisor and workers alike."""
    save_slow_model(tmp_path / "slow.onnx", seconds=0.6)
    flags = ("--models", str(tmp_path), "--workers", "2", "--max-batch-size", "1")
    with running_server(*flags, "--grace", "60") as server, _connections(server, 12) as channels:
        calls = [
            pb_grpc.ClassifierStub(channel).Classify.future(pb.ClassifyRequest(image=WHITE))
            for channel in channels
        ]
        in_flight = 'convlens_in_flight{model="slow",version="1"}'
        server.wait_for_metric(in_flight, lambda value: value == len(calls))
        family = (server.process.pid, *_workers(server))
        for pid in family:
            os.kill(pid, signal.SIGTERM)
        _wait(lambda: any(call.done() for call in calls), "the first answer")
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        _, log = server.process.communicate(timeout=30)
        assert "stopping at once" in log
        assert any(call.exception(30) is not None for call in calls)
        assert not any(psutil.pid_exists(pid) for pid in family[1:])


def test_unloading_and_loading_reach_every_worker_and_those_that_come_later(
    models: Path, server: RunningServer
) -> None:
    with _connections(server) as channels:
        assert [_names(channel) for channel in channels] == [{"light", "other"}] * 16
        admin: Any = inference_pb2_grpc.GRPCInferenceServiceStub(channels[0])
        admin.RepositoryModelUnload(inference_pb2.RepositoryModelUnloadRequest(model_name="other"))
        assert [_names(channel) for channel in channels] == [{"light"}] * 16
        with pytest.raises(grpc.RpcError) as caught:
            admin.RepositoryModelUnload(
                inference_pb2.RepositoryModelUnloadRequest(model_name="other")
            )
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    old = _workers(server)
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    _wait(lambda: not set(old) & set(_workers(server)) and len(_workers(server)) == 2, "new ones")
    _wait(lambda: _answers(server), "an answer")
    with _connections(server) as channels:
        assert [_names(channel) for channel in channels] == [{"light"}] * 16
        save_brightness_model(models / "third.onnx")
        admin = inference_pb2_grpc.GRPCInferenceServiceStub(channels[0])
        for name in ("other", "third"):
            admin.RepositoryModelLoad(inference_pb2.RepositoryModelLoadRequest(model_name=name))
    with _connections(server) as channels:
        assert [_names(channel) for channel in channels] == [{"light", "other", "third"}] * 16
    # By the first two workers, and when that was asked for: those in between left it alone.
    assert _log_after_stop(server).count("model other version 1 is being loaded") == 4


def test_a_worker_may_start_where_all_models_were_unloaded(server: RunningServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        admin: Any = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        for name in ("light", "other"):
            admin.RepositoryModelUnload(inference_pb2.RepositoryModelUnloadRequest(model_name=name))
    old = _workers(server)
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    _wait(lambda: not set(old) & set(_workers(server)) and len(_workers(server)) == 2, "new ones")
    load = inference_pb2.RepositoryModelLoadRequest(model_name="light")
    with grpc.insecure_channel(server.address) as channel:
        admin = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        admin.RepositoryModelLoad(load, wait_for_ready=True)
    server.wait_for_metric("convlens_workers", lambda value: value == 2)
    assert len(_workers(server)) == 2
    assert server.metric("convlens_worker_deaths_total") == 2


def _leave_one_descriptor(pid: int) -> tuple[int, int]:
    """Let a process open no more than one file at a time; returns its former limits."""
    taken = {int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    free = (number for number in itertools.count() if number not in taken)
    next(free)
    former = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (next(free), former[1]))
    return former


def test_a_load_that_one_worker_refuses_is_told_and_holds_up_nobody(server: RunningServer) -> None:
    """Reading a model takes two descriptors at a time."""
    load = inference_pb2.RepositoryModelLoadRequest(model_name="other")
    done = threading.Event()

    def call_until_done(channel: grpc.Channel) -> int:
        classify = pb_grpc.ClassifierStub(channel).Classify
        for answered in itertools.count(1):
            classify(pb.ClassifyRequest(model="light", image=WHITE), timeout=30)
            if done.is_set():
                return answered
        raise AssertionError

    with _connections(server) as channels, ThreadPoolExecutor(4) as threads:
        admin: Any = inference_pb2_grpc.GRPCInferenceServiceStub(channels[0])
        admin.RepositoryModelUnload(inference_pb2.RepositoryModelUnloadRequest(model_name="other"))
        assert [_names(channel) for channel in channels] == [{"light"}] * 16
        willing, refusing = _workers(server)
        limits = _leave_one_descriptor(refusing)
        calls = [threads.submit(call_until_done, channel) for channel in channels[:4]]
        with pytest.raises(grpc.RpcError) as caught:
            admin.RepositoryModelLoad(load)
        done.set()
        assert all(call.result(60) > 0 for call in calls)  # raises what any call raised
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "Too many open files" in (caught.value.details() or "")
        names = [_names(channel) for channel in channels]
        assert {frozenset(each) for each in names} == {
            frozenset({"light"}),
            frozenset({"light", "other"}),
        }
    os.kill(willing, signal.SIGKILL)
    _wait(lambda: willing not in _workers(server) and len(_workers(server)) == 2, "a new one")
    resource.prlimit(refusing, resource.RLIMIT_NOFILE, limits)
    server.wait_for_metric("convlens_workers", lambda value: value == 2)
    with _connections(server) as channels:
        assert {"light", "other"} in [_names(channel) for channel in channels]
        admin = inference_pb2_grpc.GRPCInferenceServiceStub(channels[0])
        admin.RepositoryModelLoad(load)
        assert [_names(channel) for channel in channels] == [{"light", "other"}] * 16


def _answers(server: RunningServer) -> bool:
    try:
        with Client(server.address) as client:
            return bool(client.list_models())
    except UnavailableError:
        return False


def test_with_watch_every_worker_follows_the_folder(models: Path) -> None:
    flags = ("--models", str(models), "--workers", "2", "--watch")
    with running_server(*flags) as server, _connections(server) as channels:
        (models / "other.onnx").unlink()
        _wait(lambda: all(_names(channel) == {"light"} for channel in channels), "its removal")


def test_the_port_is_held_against_others_while_a_worker_hangs(
    shared: RunningServer, hung: int
) -> None:
    assert hung in _workers(shared)
    port = shared.address.split(":")[1]
    for workers in ("1", "2"):
        ended = subprocess.run(
            serve_command("--port", port, "--workers", workers),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 1
        said = ended.stderr.rstrip("\n").rsplit("\n", 1)[-1]
        assert f"--port {port}: cannot listen on 127.0.0.1:{port}: it is in use" in said


def test_workers_that_never_become_ready_are_reported(tmp_path: Path) -> None:
    """A native library that aborts is stood for by one that is told to, as it is imported."""
    hook = tmp_path / "onnxruntime.py"
    hook.write_text("import os\nos.abort()\n")
    ended = subprocess.run(
        serve_command("--workers", "2"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert ended.returncode == 1
    said = ended.stderr.rstrip("\n").rsplit("\n", 1)[-1]
    assert "never became ready" in said
    assert said.endswith("killed by SIGABRT")


def test_what_a_worker_cannot_start_with_is_said_once_and_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    ended = subprocess.run(
        serve_command("--workers", "2", "--models", str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.count("no model could be loaded: ") == 1
    assert "Traceback" not in ended.stderr


def test_a_worker_that_hangs_is_replaced(shared: RunningServer, hung: int) -> None:
    _wait(lambda: hung not in _workers(shared), "its end")
    assert shared.page("/readyz") == "ok\n"
    shared.wait_for_metric("convlens_workers", lambda value: value == 2)


def test_without_their_supervisor_workers_finish_and_end(server: RunningServer) -> None:
    workers = _workers(server)
    with Client(server.address) as client:
        assert client.classify(WHITE, model="light").predictions
        server.process.kill()
        server.process.wait()
        _wait(lambda: not any(psutil.pid_exists(pid) for pid in workers), "their end")
