"""Runs that go on at the same time share the processors, and compute what a lone one does."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from convlens.server.plan import Machine, Plan, default_plan
from convlens.server.providers import ModelSource, Node, open_session
from convlens.server.providers.elastic import SPREAD_FROM_SECONDS, ElasticSession
from convlens.server.run_count import RunCount
from convlens.server.tensor import Array
from tests.support import save_deep_model


class _Recorder:
    """A session that takes its time, and notes how many threads were given to each run."""

    def __init__(self, width: int, seen: list[int], release: threading.Event) -> None:
        self._width, self._seen, self._release = width, seen, release

    def get_inputs(self) -> Sequence[Node]:
        return ()

    def get_outputs(self) -> Sequence[Node]:
        return ()

    def run(self, output_names: None, input_feed: Mapping[str, Array]) -> Sequence[Array]:  # noqa: ARG002
        self._seen.append(self._width)
        self._release.wait(2 * SPREAD_FROM_SECONDS)
        return ()


def _session(seen: list[int], runs: RunCount, release: threading.Event) -> ElasticSession:
    return ElasticSession({w: _Recorder(w, seen, release) for w in (4, 2, 1)}, runs)


@pytest.mark.parametrize(
    ("processors", "expected"), [(1, [1]), (2, [2, 1]), (6, [6, 3, 1]), (8, [8, 4, 2, 1])]
)
def test_a_run_may_have_all_processors_or_a_half_and_so_on_down_to_one(
    processors: int, expected: list[int]
) -> None:
    assert Plan(instances=processors, elastic=True).widths == expected


def test_a_run_gets_its_share_of_the_processors_runs_of_other_models_considered() -> None:
    seen: list[int] = []
    runs = RunCount()
    session = _session(seen, runs, threading.Event())
    session.run(None, {})  # nothing is known of it yet
    session.run(None, {})
    for _ in range(4):
        runs.begin()
        session.run(None, {})
    for _ in range(4):
        runs.end()
    session.run(None, {})
    assert seen == [1, 4, 2, 1, 1, 1, 4]


def test_a_short_run_is_not_spread() -> None:
    seen: list[int] = []
    released = threading.Event()
    session = _session(seen, RunCount(), released)
    released.set()
    for _ in range(3):
        session.run(None, {})
    assert seen == [1, 1, 1]


def test_a_run_that_fails_is_over(tmp_path: Path) -> None:
    runs = RunCount()
    machine = Machine(tmp_path / "cache", runs=runs)
    source = ModelSource.read(save_deep_model(tmp_path / "deep.onnx", layers=2))
    session = open_session(source, default_plan("cpu", "fp32", 2, 16), machine)
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        session.run(None, {"input": np.zeros((1, 1, 2), np.float32)})
    assert runs.begin() == 1


@pytest.mark.parametrize("cached", [True, False])
def test_lone_and_concurrent_runs_compute_the_same(cached: bool, tmp_path: Path) -> None:
    source = ModelSource.read(save_deep_model(tmp_path / "deep.onnx", layers=2))
    pictures = np.random.default_rng(0).random((8, 1, 32, 32), np.float32)
    feed = {"input": pictures}
    expected = open_session(source, Plan(), Machine()).run(None, feed)[0]
    machine = Machine(tmp_path / "cache" if cached else None)
    session = open_session(source, default_plan("cpu", "fp32", 2, 16), machine)
    found: list[Array] = []

    def run() -> None:
        found.extend(session.run(None, feed)[0] for _ in range(3))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 9
    for outputs in (*found, session.run(None, feed)[0]):
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
