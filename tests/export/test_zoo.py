from pathlib import Path

import pytest

from convlens.export import GraphOptions
from convlens.export.zoo import ZooRequest, export_all


@pytest.fixture
def request_for(tmp_path: Path) -> ZooRequest:
    return ZooRequest(tmp_path, weights="random", seed=0, options=GraphOptions())


def test_a_failure_is_an_outcome_and_the_rest_is_exported_and_measured(
    request_for: ZooRequest,
) -> None:
    started: list[str] = []
    failed, done = export_all(["no_such_network", "lenet5"], request_for, started.append)
    assert started == ["no_such_network", "lenet5"]
    assert failed.failure is not None
    assert "no architecture is called 'no_such_network'" in failed.failure
    assert done.measured is not None
    assert done.measured.result.path == request_for.folder / "lenet5.onnx"
    assert done.measured.seconds > 0
    assert 1e8 < done.measured.peak_bytes < 1e10


def test_a_fault_that_nobody_foresaw_is_an_outcome_too(tmp_path: Path) -> None:
    request = ZooRequest(tmp_path, weights="random", seed=10**30, options=GraphOptions())
    (outcome,) = export_all(["lenet5"], request)
    assert outcome.failure is not None
    assert outcome.failure.startswith("ValueError: ")


def test_what_is_there_is_kept_unless_something_else_is_asked_for(
    request_for: ZooRequest,
) -> None:
    (first,) = export_all(["lenet5"], request_for)
    path = request_for.folder / "lenet5.onnx"
    written = path.stat().st_mtime_ns
    (second,) = export_all(["lenet5"], request_for)
    assert first.measured is not None
    assert (second.measured, second.failure) == (None, None)
    assert path.stat().st_mtime_ns == written
    other = ZooRequest(request_for.folder, "random", 1, GraphOptions())
    (third,) = export_all(["lenet5"], other)
    assert third.measured is not None


def test_a_broken_file_is_not_taken_for_a_done_one(request_for: ZooRequest) -> None:
    (request_for.folder / "lenet5.onnx").write_bytes(b"\x08\x08half a file")
    (outcome,) = export_all(["lenet5"], request_for)
    assert outcome.measured is not None
