"""A candidate gets copies of requests; it takes over where it agrees, and disturbs nobody."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import onnx
import psutil
import pytest
from onnx import helper, numpy_helper

from convlens.client import Client, NotFoundError
from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc, inference_pb2, inference_pb2_grpc
from tests.server.tensors import Stub, raw_request
from tests.support import RunningServer, grey_png, running_server, save_brightness_model

RIGHT, WRONG = 20.0, -20.0
IS_DEFAULT = 'convlens_default_version{model="light",version="2"}'


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with one version of a model."""
    _save(tmp_path, "1", RIGHT)
    return tmp_path


def _save(models: Path, version: str, slope: float, name: str = "light") -> None:
    """Put a file in its place at once."""
    folder = models / name / version
    folder.mkdir(parents=True, exist_ok=True)
    save_brightness_model(folder / "part", slope=slope)
    os.replace(folder / "part", folder / "model.onnx")  # noqa: PTH105 - one system call


@contextmanager
def _trial(models: Path, *flags: str) -> Iterator[tuple[RunningServer, Client]]:
    """A server with version 2 on trial: five answers decide."""
    trial = ("--candidate", "light@2", "--promote-at", "0.9", "--promote-after", "5")
    with (
        running_server("--models", str(models), "--watch", *trial, *flags) as server,
        Client(server.address) as client,
    ):
        yield server, client


def _ask(client: Client, levels: range, model: str = "light") -> set[str]:
    """Ask for pictures of these grey levels; returns the versions that answered."""
    answers = [client.classify(grey_png(level), model=model) for level in levels]
    return {answer.version for answer in answers}


def _wait_for(server: RunningServer, agrees: str, count: int, model: str = "light") -> None:
    labels = f'agrees="{agrees}",model="{model}",version="2"'
    series = f"convlens_candidate_agreement_total{{{labels}}}"
    server.wait_for_metric(series, lambda value: value == count)


def _loaded_file(server: RunningServer) -> str:
    """The line of /metrics that has the sha256 of version 2."""
    lines = server.page("/metrics").splitlines()
    (line,) = (line for line in lines if "convlens_model_info{" in line and 'version="2"' in line)
    return line


def _wait_for_another_file(server: RunningServer, before: str) -> None:
    deadline = time.monotonic() + 60
    while _loaded_file(server) == before:
        assert time.monotonic() < deadline, "the new file is not loaded"
        time.sleep(0.01)


def _default(server: RunningServer) -> str:
    with grpc.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)
        models = stub.ListModels(pb.ListModelsRequest()).models
    (version,) = (entry.version for entry in models if entry.is_default)
    assert {entry.version for entry in models if entry.is_candidate} == {"2"} - {version}
    return version


def test_a_candidate_that_agrees_becomes_the_default_version(models: Path) -> None:
    _save(models, "2", RIGHT)
    with _trial(models) as (server, client):
        assert _default(server) == "1"
        assert _ask(client, range(0, 200, 50)) == {"1"}
        assert client.classify(grey_png(255), version="2").version == "2"
        _wait_for(server, "true", 4)
        assert _ask(client, range(1)) == {"1"}
        server.wait_for_metric(IS_DEFAULT, lambda value: value == 1)
        assert _default(server) == "2"
        assert _ask(client, range(3)) == {"2"}
        shutil.rmtree(models / "light" / "1")
        before = _loaded_file(server)
        _save(models, "2", WRONG)
        _wait_for_another_file(server, before)
        assert _ask(client, range(3)) == {"2"}  # there is no other one
        promoted = 'convlens_candidate_promotions_total{model="light",version="2"}'
        assert server.metric(promoted) == 1


def _promote(server: RunningServer, client: Client) -> None:
    """Ask until the candidate is the default version."""
    assert _ask(client, range(5)) == {"1"}
    server.wait_for_metric(IS_DEFAULT, lambda value: value == 1)


@pytest.mark.parametrize("flags", [(), ("--memory-budget", "1GiB")], ids=["loaded", "lazy"])
def test_a_promotion_outlives_the_server_and_a_new_file_begins_anew(
    models: Path, flags: tuple[str, ...]
) -> None:
    _save(models, "2", RIGHT)
    with _trial(models, *flags) as (server, client):
        _promote(server, client)
    with _trial(models, *flags) as (server, client):
        assert _default(server) == "2"
        assert _ask(client, range(3)) == {"2"}
        _save(models, "2", WRONG)
        server.wait_for_metric(
            'convlens_default_version{model="light",version="1"}', lambda value: value == 1
        )
        assert _ask(client, range(3)) == {"1"}


def _wait_for_default(server: RunningServer, version: str) -> None:
    series = f'convlens_default_version{{model="light",version="{version}"}}'
    server.wait_for_metric(series, lambda value: value == 1)


def _reasons(server: RunningServer) -> dict[str, str]:
    """What RepositoryIndex says of each version."""
    with grpc.insecure_channel(server.address) as channel:
        index = inference_pb2_grpc.GRPCInferenceServiceStub(channel).RepositoryIndex(
            inference_pb2.RepositoryIndexRequest()
        )
    return {entry.version: entry.reason for entry in index.models}


@pytest.mark.parametrize("flags", [(), ("--memory-budget", "1GiB")], ids=["loaded", "lazy"])
def test_a_candidate_below_the_default_becomes_the_default_until_a_newer_one_comes(
    models: Path, flags: tuple[str, ...]
) -> None:
    for version in ("2", "3"):
        _save(models, version, RIGHT)
    with _trial(models, *flags) as (server, client):
        assert _default(server) == "3"
        assert _ask(client, range(5)) == {"3"}
        server.wait_for_metric(IS_DEFAULT, lambda value: value == 1)
        assert _default(server) == "2"
        assert _ask(client, range(3)) == {"2"}
        promoted = "it was promoted: it goes before the versions that were there"
        assert {version: promoted in reason for version, reason in _reasons(server).items()} == {
            "1": False,
            "2": True,
            "3": False,
        }
        _save(models, "4", RIGHT)
        _wait_for_default(server, "4")
        assert _ask(client, range(3)) == {"4"}
        shutil.rmtree(models / "light" / "4")
        server.wait_for_metric(IS_DEFAULT, lambda value: value == 1)
        server.process.terminate()
        _, log = server.process.communicate(timeout=30)
        assert log.count("version 2 answers those who name none, as it was promoted") == 2
    # Nor need the trial's settings stay for ever.
    with running_server("--models", str(models), "--watch", *flags) as server:
        assert _version_that_answers(server) == "2"
        (models / "light" / "2").rename(models / "away")
        _wait_for_default(server, "3")
        assert _version_that_answers(server) == "3"
        (models / "away").rename(models / "light" / "2")
        server.wait_for_metric(IS_DEFAULT, lambda value: value == 1)
        assert _version_that_answers(server) == "2"


def test_a_second_promotion_goes_before_all_that_the_first_one_went_before(models: Path) -> None:
    for version in ("2", "3"):
        _save(models, version, RIGHT)
    with _trial(models) as (server, client):
        assert _ask(client, range(5)) == {"3"}
        server.wait_for_metric(IS_DEFAULT, lambda value: value == 1)
    flags = ("--candidate", "light@1", "--promote-at", "0.9", "--promote-after", "5")
    with (
        running_server("--models", str(models), *flags) as server,
        Client(server.address) as client,
    ):
        assert _ask(client, range(5)) == {"2"}
        _wait_for_default(server, "1")
        assert _ask(client, range(3)) == {"1"}


def test_where_promotions_can_be_neither_read_nor_written_one_holds_while_the_server_runs(
    models: Path,
) -> None:
    _save(models, "2", RIGHT)
    (models / "promotions.json").write_text('{"light": "2"}')
    (models / "promotions.unfinished").mkdir()  # a file of this name cannot be made
    with _trial(models) as (server, client):
        assert _default(server) == "1"
        _promote(server, client)
        assert _ask(client, range(3)) == {"2"}
        server.process.terminate()
        _, log = server.process.communicate(timeout=30)
    assert "promotions.json is ignored, candidates are on trial again" in log
    assert log.count("promotions.json cannot be written (Is a directory): ") == 1


def test_workers_compare_together_and_promote_together(models: Path) -> None:
    _save(models, "2", RIGHT)
    with _trial(models, "--workers", "2") as (server, _):
        answers = 0
        while server.metric(IS_DEFAULT) != 1:
            _version_that_answers(server)
            answers += 1
            assert answers < 100, "no promotion"
        assert (models / "promotions.json").exists()
        assert {_version_that_answers(server) for _ in range(12)} == {"2"}
        promoted = 'convlens_candidate_promotions_total{model="light",version="2"}'
        assert server.metric(promoted) == 1
        for worker in psutil.Process(server.process.pid).children():
            worker.kill()
        server.wait_for_metric("convlens_worker_deaths_total", lambda value: value == 2)
        server.wait_for_metric("convlens_workers", lambda value: value == 2)
        assert {_version_that_answers(server) for _ in range(12)} == {"2"}
        server.process.terminate()
        _, log = server.process.communicate(timeout=30)
        assert log.count("it becomes the default version") == 1


def _version_that_answers(server: RunningServer) -> str:
    """Of a connection of its own, which the kernel gives to one of the workers."""
    with Client(server.address) as client:
        return client.classify(grey_png(255), model="light").version


def test_one_that_disagrees_stays_and_a_new_file_begins_anew(models: Path) -> None:
    _save(models, "2", WRONG)
    with _trial(models) as (server, client):
        assert _ask(client, range(0, 240, 30)) == {"1"}
        _wait_for(server, "false", 8)  # five were judged, three are counted
        assert _default(server) == "1"
        before = _loaded_file(server)
        _save(models, "2", RIGHT)
        _wait_for_another_file(server, before)
        assert _ask(client, range(5)) == {"1"}
        server.wait_for_metric(IS_DEFAULT, lambda value: value == 1)
        server.process.terminate()
        _, log = server.process.communicate(timeout=30)
        assert "candidate light@2 gave the same first prediction for 0.00 % of 5 rows\n" in log
        assert "for 100.00 % of 5 rows: it becomes the default version" in log


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with trials that cannot end well, each of a model of its own."""
    folder = tmp_path_factory.mktemp("odd")
    for name in ("broken", "other", "tensors", "alone"):
        for version in ("1", "2"):
            _save(folder, version, RIGHT, name)
    (folder / "broken" / "2" / "model.onnx").write_bytes(b"\x08\x08 broken")
    _answer_in_two_columns(folder / "other" / "2" / "model.onnx")
    shutil.rmtree(folder / "alone" / "1")
    candidates = [f"--candidate={name}@2" for name in ("broken", "other", "tensors", "alone")]
    with running_server("--models", str(folder), *candidates) as server:
        yield server


def _answer_in_two_columns(path: Path) -> None:
    """Give the logits of a file another axis."""
    model = onnx.load(path)
    (logits,) = (node for node in model.graph.node if node.output == ["logits"])
    logits.output[0] = "flat"
    for name, value in {"last": [2], "twice": [1, 1, 2]}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    model.graph.node.append(helper.make_node("Unsqueeze", ["flat", "last"], ["column2"]))
    model.graph.node.append(helper.make_node("Tile", ["column2", "twice"], ["logits"]))
    model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=2)
    onnx.save(model, path)


def test_a_broken_candidate_disturbs_nobody(odd: RunningServer) -> None:
    with Client(odd.address) as client:
        assert _ask(client, range(8), "broken") == {"1"}
    series = 'convlens_candidate_not_compared_total{model="broken",version="2"}'
    odd.wait_for_metric(series, lambda value: value == 8)


def test_a_candidate_whose_answers_have_another_form_disagrees(odd: RunningServer) -> None:
    with Client(odd.address) as client:
        assert _ask(client, range(8), "other") == {"1"}
    _wait_for(odd, "false", 8, "other")


def test_tensors_are_copied_too(odd: RunningServer) -> None:
    with grpc.insecure_channel(odd.address) as channel:
        values = np.stack([np.full((1, 32, 32), level, np.float32) for level in (0, 0.4, 1)])
        Stub(channel).ModelInfer(raw_request("tensors", input=("FP32", values)))
    _wait_for(odd, "true", 3, "tensors")


def test_a_candidate_alone_answers_only_those_who_name_it(odd: RunningServer) -> None:
    with Client(odd.address) as client:
        with pytest.raises(NotFoundError, match="no version that is no candidate"):
            _ask(client, range(1), "alone")
        assert client.classify(grey_png(0), model="alone", version="2").version == "2"
