"""Starting and stopping: what is said, with which exit code, and that nothing in flight is lost."""

import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from convlens.cli.main import main
from convlens.client import Classification, Client, UnavailableError
from tests.server.graphs import save_slow_to_load
from tests.server.tensors import Stub, raw_request
from tests.support import (
    BUNDLED,
    GREY_32,
    RunningServer,
    grey_png,
    running_server,
    save_brightness_model,
    save_slow_model,
    serve_command,
)


def _serve(*flags: str) -> "subprocess.CompletedProcess[str]":
    """Run a server that is expected to end by itself."""
    command = serve_command(*flags)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def _last_line(text: str) -> str:
    return text.rstrip("\n").rsplit("\n", 1)[-1]


@contextmanager
def _busy_server(
    models: Path, pictures: int
) -> "Iterator[tuple[RunningServer, list[Future[Classification]]]]":
    """A slow server with so many pictures in flight."""
    save_slow_model(models / "slow.onnx")
    with (
        running_server("--models", str(models), "--max-batch-size", "1", "--grace", "60") as server,
        Client(server.address) as client,
        ThreadPoolExecutor(pictures) as threads,
    ):
        calls = [threads.submit(client.classify, grey_png(level)) for level in range(pictures)]
        in_flight = 'convlens_in_flight{model="slow",version="1"}'
        server.wait_for_metric(in_flight, lambda value: value == pictures)
        yield server, calls


def _wait_for_line(server: RunningServer, text: str) -> None:
    assert server.process.stderr is not None
    for line in server.process.stderr:
        if text in line:
            return
    pytest.fail(f"the server never said {text!r}")


def test_sigterm_says_so_finishes_what_is_in_flight_then_stops(tmp_path: Path) -> None:
    with _busy_server(tmp_path, 6) as (server, calls):
        server.process.send_signal(signal.SIGTERM)
        _wait_for_line(server, "stopping:")
        with pytest.raises(OSError, match="503"):
            server.page("/readyz")
        assert server.page("/livez") == "ok\n"
        assert [len(call.result(30).predictions) for call in calls] == [2] * 6
        _, log = server.process.communicate(timeout=30)
        assert server.process.returncode == 0
        assert "Traceback" not in log


def test_a_model_that_is_being_loaded_does_not_keep_the_server_from_stopping(
    tmp_path: Path,
) -> None:
    """The runtime is at it for a minute and cannot be interrupted; the grace is shorter."""
    save_slow_to_load(tmp_path / "heavy.onnx")
    flags = ("--models", str(tmp_path), "--memory-budget", "8GiB", "--grace", "5")
    with (
        running_server(*flags) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        values = np.ones((1, 2), np.float32)
        call = Stub(channel).ModelInfer.future(raw_request("heavy", values=("FP32", values)))
        _wait_for_line(server, "model heavy version 1 is being loaded")
        server.process.send_signal(signal.SIGTERM)
        assert call.code() is grpc.StatusCode.UNAVAILABLE
        assert "the server is stopping" in call.details()
        _, log = server.process.communicate(timeout=30)
        assert server.process.returncode == 0
        assert "a model was still being loaded: its loading is abandoned" in log
        assert "Traceback" not in log


def test_a_second_signal_stops_a_server_that_is_still_loading(tmp_path: Path) -> None:
    save_slow_to_load(tmp_path / "heavy.onnx")
    command = serve_command("--models", str(tmp_path), "--grace", "60")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        log = ""
        while "model heavy version 1 is being loaded" not in log:
            line = process.stderr.readline()
            assert line, f"the server ended: {log}"
            log += line
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        log += process.stderr.read()
        assert process.wait(30) == 0, log
    assert "Traceback" not in log


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    with _busy_server(tmp_path, 16) as (server, calls):
        server.process.send_signal(signal.SIGTERM)
        _wait_for_line(server, "stopping:")
        server.process.send_signal(signal.SIGTERM)
        server.process.communicate(timeout=30)
        assert any(call.exception(30) is not None for call in calls)


@pytest.mark.parametrize("flags", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_however_many_signals_come_while_it_ends_it_ends_well(flags: tuple[str, ...]) -> None:
    with running_server(*flags) as server:
        while server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        _, log = server.process.communicate()
        assert server.process.returncode == 0, log
    assert "Traceback" not in log


def test_a_broken_model_beside_good_ones_is_said_and_does_not_stop_them(tmp_path: Path) -> None:
    save_brightness_model(tmp_path / "good.onnx")
    (tmp_path / "broken.onnx").write_bytes(BUNDLED.read_bytes()[:1000])
    with running_server("--models", str(tmp_path)) as server, Client(server.address) as client:
        assert "broken.onnx" in server.lines[0]
        assert server.lines[-1].startswith("serving good with cpu on ")
        assert client.classify(grey_png(255), model="good").predictions[0].label == "bright"


def test_a_model_with_a_card_that_it_contradicts_stops_no_other(tmp_path: Path) -> None:
    golden = {"seed": 2**40, "shape": [1, 1, 32, 32], "outputs": [[1], [2, 3]], "tolerance": 1}
    save_brightness_model(tmp_path / "golden.onnx", golden=golden)
    save_brightness_model(tmp_path / "good.onnx")
    save_brightness_model(tmp_path / "labels.onnx", labels=["bright"])
    with running_server("--models", str(tmp_path)) as server:
        assert "golden.seed: must be at most" in server.lines[0]
        assert "it has 2 classes, and convlens.labels names 1" in server.lines[1]
        assert server.lines[-1].startswith("serving good with cpu on ")


def test_with_no_model_left_serve_ends_with_1_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "garbage.onnx").write_bytes(b"not a model")
    ended = _serve("--models", str(tmp_path))
    assert ended.returncode == 1
    assert ended.stdout == ""
    said = _last_line(ended.stderr)
    assert said.startswith("convlens serve: no model could be loaded: ")
    assert f"{tmp_path / 'empty.onnx'}: " in said
    assert f"{tmp_path / 'garbage.onnx'}: " in said
    assert "Traceback" not in ended.stderr


def test_a_folder_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        ended = _serve("--models", str(folder))
        assert ended.returncode == 1
        assert f"--models {folder}: there is no" in _last_line(ended.stderr)


@pytest.mark.parametrize("flag", ["--port", "--metrics-port"])
def test_a_port_in_use_is_named_in_one_line(flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = _serve(flag, port)
    assert ended.returncode == 1
    assert f"{flag} {port}: cannot listen on 127.0.0.1:{port}" in _last_line(ended.stderr)
    assert "Traceback" not in ended.stderr


def test_a_second_server_does_not_share_the_first_ones_port(lenet5_server: RunningServer) -> None:
    ended = _serve("--port", lenet5_server.address.split(":")[1])
    assert ended.returncode == 1
    assert "in use" in _last_line(ended.stderr)


def test_a_model_that_is_not_what_its_file_promises_is_not_served(tmp_path: Path) -> None:
    golden = {"seed": 1, "shape": [2, 1, 32, 32], "outputs": [[5.0, -5.0]] * 2, "tolerance": 0.001}
    save_brightness_model(tmp_path / "wrong.onnx", golden=golden)
    save_brightness_model(tmp_path / "odd.onnx", preprocessing={**GREY_32, "resize": [28, 28]})
    ended = _serve("--models", str(tmp_path))
    assert ended.returncode == 1
    said = _last_line(ended.stderr)
    assert re.search(r"wrong\.onnx: its outputs differ from the golden ones", said)
    assert "odd.onnx: its preprocessing makes [1, 28, 28] of a picture" in said
    assert "its input takes [1, 32, 32]" in said


def test_a_provider_that_is_not_there_is_an_error_not_a_fall_back() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA: the case of one that has not cannot be shown")
    ended = _serve("--provider", "cuda")
    assert ended.returncode == 1
    reason = "--provider cuda: this onnxruntime has no CUDAExecutionProvider"
    assert reason in _last_line(ended.stderr)


@pytest.mark.parametrize(
    "flags",
    [("--port", "70000"), ("--queue-size", "0"), ("--grace", "soon"), ("--provider", "abacus")],
)
def test_a_wrong_flag_is_wrong_usage(
    flags: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *flags]) == 2
    assert flags[0] in _last_line(capsys.readouterr().err)


def test_calls_while_the_server_restarts_lose_nothing_once_retried(tmp_path: Path) -> None:
    """A caller that retries UNAVAILABLE, as gRPC's own retries do, gets every answer."""
    save_brightness_model(tmp_path / "brightness.onnx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    flags = ("--models", str(tmp_path), "--port", port)
    stop = threading.Event()

    def call_until_stopped() -> list[Classification]:
        answers = []
        with Client(f"127.0.0.1:{port}") as client:
            while not stop.is_set():
                try:
                    answers.append(client.classify(grey_png(255)))
                except UnavailableError:
                    time.sleep(0.05)
        return answers

    with ThreadPoolExecutor(1) as threads:
        calls: Future[list[Classification]]
        with running_server(*flags) as first:
            calls = threads.submit(call_until_stopped)
            time.sleep(0.3)
            first.process.send_signal(signal.SIGTERM)
            first.process.communicate(timeout=30)
            assert first.process.returncode == 0
        with running_server(*flags) as second:
            served = 'convlens_stage_seconds_count{model="brightness",stage="total",version="1"}'
            second.wait_for_metric(served, lambda value: value >= 3)
            stop.set()
            answers = calls.result(30)
    assert all(answer.predictions[0].label == "bright" for answer in answers)


def test_a_default_model_that_is_not_there_is_refused_at_start() -> None:
    ended = _serve("--default-model", "nope")
    assert ended.returncode == 1
    assert "--default-model nope: there are lenet5" in _last_line(ended.stderr)


def test_a_candidate_that_is_the_only_version_is_warned_of() -> None:
    with running_server("--candidate", "lenet5@1") as server:
        _wait_for_line(server, "--candidate lenet5@1: it is the only version")


def test_settings_of_models_that_may_come_yet_are_warned_of() -> None:
    aliases = ("--alias", "s=nope", "--alias", "old=lenet5@9", "--alias", "stable=lenet5")
    flags = (*aliases, "--candidate", "lenet5@7", "--default-model", "stable")
    with running_server(*flags) as server, Client(server.address) as client:
        assert client.classify(grey_png(255)).model == "lenet5"
        server.process.send_signal(signal.SIGTERM)
        _, log = server.process.communicate(timeout=30)
    assert "--alias s=nope: there is no such model yet; there are lenet5" in log
    assert "--alias old=lenet5@9: there is no such version yet; there are 1" in log
    assert "--candidate lenet5@7: there is no such version yet; there are 1" in log
    assert "stable" not in log
