"""Tuning finds a plan, the server uses it while it holds, and nothing that differs is chosen."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from convlens.client import Client
from convlens.server.agreement import Agreement, compare, read_picture, seeded_trial
from convlens.server.contender import Contender, decide
from convlens.server.errors import ModelLoadError
from convlens.server.findings import Tuning
from convlens.server.model import load_model
from convlens.server.plan import Machine, Plan, default_plan
from convlens.server.providers import ModelSource
from convlens.server.speed import RunTime, measure_run, measure_serving
from convlens.server.tuned_file import Planner, Tuned, Twin, tuned_key, tuned_path
from convlens.server.tuning import Tuner, check_twin
from tests.support import BUNDLED, DIGITS, running_server

BUDGET_SECONDS = 5.0


@pytest.fixture(scope="module")
def lenet5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tuned") / "lenet5.onnx"
    shutil.copy(BUNDLED, path)
    return path


@pytest.fixture(scope="module")
def tuning(lenet5: Path) -> Tuning:
    said: list[float] = []
    tuner = Tuner([lenet5], 2, Machine(), BUDGET_SECONDS, lambda share, _: said.append(share))
    tuning = tuner.tune(DIGITS[0].parent)
    assert said == sorted(said)
    return tuning


@pytest.fixture
def planner() -> Planner:
    return Planner(Plan(threads=2), "throughput", any_provider=True, processors=2)


def test_every_row_gives_fp32s_answers_and_the_best_are_written(
    tuning: Tuning, lenet5: Path
) -> None:
    assert tuning.trial.startswith("20 pictures of ")
    ways = {(row.plan.instances, row.plan.threads) for row in tuning.rows}
    assert (2, 1) in ways
    assert ways <= {(1, 2), (2, 1)}
    assert all(
        row.plan.elastic == (row.plan.instances == 2)
        for row in tuning.rows
        if row.plan.provider == "cpu"
    )
    assert all(row.agreement.holds(random_weights=False) for row in tuning.rows)
    assert tuning.peaks["fp32"] > 1e8
    tuned = Tuned.read(tuned_path(lenet5))
    assert tuned == tuning.tuned[tuned_path(lenet5)]
    rates = {row.plan: row.pictures_per_second or 0.0 for row in tuning.rows}
    assert max(rates.values()) > 0.0
    assert rates[tuned.plans["throughput"]] >= 0.97 * rates[tuned.plans["latency"]]
    alone = {
        goal: next(
            row.batch_seconds for row in tuning.rows if row.plan == replace(plan, max_batch_size=1)
        )
        for goal, plan in tuned.plans.items()
    }
    assert alone["latency"] <= alone["throughput"]


@pytest.mark.usefixtures("tuning")
def test_the_server_uses_what_was_found_and_says_so(lenet5: Path) -> None:
    path = tuned_path(lenet5)
    found = Tuned.read(path)
    plan = Plan("cpu", "fp32", threads=1, instances=2, max_batch_size=3)
    processors = found.key["processors"]
    Tuned(found.key, {"throughput": plan, "latency": Plan(threads=2)}).write(path)
    flags = ("--models", str(lenet5.parent), "--threads", str(processors))
    with running_server(*flags) as server, Client(server.address) as client:
        for picture in DIGITS:
            assert client.classify(picture).predictions[0].label == picture.name.split("-")[0]
        server.process.terminate()
        _, log = server.process.communicate()
    assert f"lenet5.onnx, tuned for throughput: {plan}" in log
    found.write(path)


def test_findings_of_another_machine_or_file_are_ignored_with_the_reason(
    tmp_path: Path, planner: Planner, caplog: pytest.LogCaptureFixture
) -> None:
    model = tmp_path / "model.onnx"
    shutil.copy(BUNDLED, model)
    source = ModelSource.read(model)
    assert planner.choose(source).plan == planner.base
    key = tuned_key(source.sha256, 2)
    plan = Plan(threads=1, instances=2)
    for name, other in (("sha256", "0"), ("processor", "abacus"), ("processors", 64)):
        Tuned({**key, name: other}, {"throughput": plan, "latency": plan}).write(tuned_path(model))
        caplog.clear()
        assert planner.choose(source).plan == planner.base
        assert f"is ignored: its {name} was {other}" in caplog.text
    Tuned(key, {"throughput": plan, "latency": plan}).write(tuned_path(model))
    assert planner.choose(source).plan == plan


@pytest.fixture
def twin(lenet5: Path, tmp_path: Path) -> Path:
    """The same network in another file, as one in fewer bits is."""
    path = tmp_path / "twin.onnx"
    model = onnx.load(lenet5)
    model.doc_string = "twin"
    for entry in model.metadata_props:
        if entry.key == "convlens.model":
            entry.value = json.dumps(json.loads(entry.value) | {"precision": "int8"})
    onnx.save(model, path)
    return path


def _runs(seconds: dict[int, float], threads: int = 1) -> dict[int, list[RunTime]]:
    """One round of runs that keep so many processors busy, by batch size."""
    return {size: [RunTime(each, threads * each)] for size, each in seconds.items()}


def test_a_faster_twin_answers_in_the_place_of_the_file_that_was_tuned(
    lenet5: Path, twin: Path, planner: Planner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    model = twin.parent / "models" / "model.onnx"
    model.parent.mkdir()
    shutil.copy(lenet5, model)
    own, other = ModelSource.read(model), ModelSource.read(twin)
    plan, exact = Plan(threads=2), Agreement(1.0, 0.0)
    slow = Contender(own, plan, "fp32", exact, _runs({1: 2.0, 2: 3.0}))
    fast = Contender(other, plan, "int8", exact, _runs({1: 3.0, 2: 2.0}))
    tuned = decide([slow, fast], own, processors=2)
    assert tuned.twins == {"throughput": Twin("../twin.onnx", other.sha256)}
    tuned.write(tuned_path(model))
    assert planner.choose(own).source == other
    assert "model.onnx, tuned for throughput: " in caplog.text
    assert f": {twin} on cpu int8" in caplog.text
    assert replace(planner, goal="latency").choose(own).source == own
    twin.write_bytes(twin.read_bytes() + b"\0")
    assert planner.choose(own).source == own
    assert "twin.onnx has changed: tune again" in caplog.text
    twin.unlink()
    assert planner.choose(own).source == own


def test_what_decides_is_the_speed_from_a_pictures_bytes_on(lenet5: Path) -> None:
    source, exact = ModelSource.read(lenet5), Agreement(1.0, 0.0)
    wide = Contender(source, Plan(threads=2), "fp32", exact, _runs({1: 1.0, 4: 2.0}, threads=8))
    narrow = Contender(source, Plan(instances=2), "fp32", exact, _runs({1: 2.1, 4: 4.2}))
    assert decide([wide, narrow], source, 2).plans["throughput"] == Plan(
        threads=2, max_batch_size=4
    )
    wide.picture_seconds.update({1: [2.0], 4: [1.5]})
    narrow.picture_seconds.update({1: [1.4], 4: [1.41]})
    assert decide([wide, narrow], source, 2).plans == {
        "throughput": Plan(instances=2, max_batch_size=1),
        "latency": Plan(threads=2, max_batch_size=4),
    }
    wide.picture_seconds[4] = [1.39]  # as fast: then what takes less of the processors
    assert decide([wide, narrow], source, 2).plans["throughput"].instances == 2
    wide.runs.update(_runs({4: 2.0}))
    assert decide([wide, narrow], source, 2).plans["throughput"].threads == 2


def test_what_approximate_decoding_changes_is_told_where_there_are_pictures(
    lenet5: Path, tmp_path: Path, photographs: dict[str, Path]
) -> None:
    for name in ("chelsea", "coffee"):
        shutil.copy(photographs[name], tmp_path)
    model = onnx.load(lenet5)
    for entry in model.metadata_props:
        if entry.key == "convlens.preprocessing":
            entry.value = json.dumps(json.loads(entry.value) | {"resize": 32, "crop": [32, 32]})
    onnx.save(model, tmp_path / "model.onnx")
    tuner = Tuner([tmp_path / "model.onnx"], 2, Machine(), 0.1, lambda *_: None)
    found = tuner.tune(tmp_path).approximation
    assert found is not None
    assert found.agreement.top1 == 1.0
    assert 0.0 < found.agreement.deviation < 0.05
    assert found.exact_per_second > 0.0 < found.approximate_per_second
    assert tuner.tune(None).approximation is None


def test_without_pictures_a_made_one_is_decoded(lenet5: Path) -> None:
    model = load_model("lenet5", "1", ModelSource.read(lenet5), Plan(instances=2), Machine())
    trial = seeded_trial(model)
    (picture,) = trial.pictures
    assert read_picture(model, picture).shape == trial.inputs.shape[1:]
    assert read_picture(model, picture).std() > 0.1
    alone = measure_run(model, trial.inputs, 4).seconds / (2 * 4)
    assert measure_serving(model, trial.pictures, 4, processors=2) > alone


def test_a_model_of_tensors_is_measured_without_pictures(lenet5: Path, tmp_path: Path) -> None:
    model = onnx.load(lenet5)
    del model.metadata_props[:]
    path = tmp_path / "tensors.onnx"
    onnx.save(model, path)
    tuning = Tuner([path], 1, Machine(), BUDGET_SECONDS, lambda *_: None).tune(None)
    assert tuning.rows
    assert {row.pictures_per_second for row in tuning.rows} == {None}


def test_a_twin_with_other_labels_is_refused(lenet5: Path, twin: Path) -> None:
    model = onnx.load(twin)
    labels = next(entry for entry in model.metadata_props if entry.key == "convlens.labels")
    labels.value = json.dumps([*map(str, range(1, 11))])
    onnx.save(model, twin)
    own, other = (
        load_model("lenet5", "1", ModelSource.read(path), Plan(), Machine())
        for path in (lenet5, twin)
    )
    check_twin(own, own)
    with pytest.raises(ModelLoadError, match="its labels are not those"):
        check_twin(other, own)


def test_a_twin_is_served_under_the_name_of_the_file_that_was_tuned(
    lenet5: Path, twin: Path
) -> None:
    folder = twin.parent / "models"
    folder.mkdir()
    model = folder / "lenet5.onnx"
    shutil.copy(lenet5, model)
    plan, named = Plan(), Twin("../twin.onnx", ModelSource.read(twin).sha256)
    Tuned(
        tuned_key(ModelSource.read(model).sha256, 1),
        {"throughput": plan, "latency": plan},
        {"throughput": named},
    ).write(tuned_path(model))
    flags = ("--models", str(folder), "--threads", "1")
    with running_server(*flags) as server, Client(server.address) as client:
        answer = client.classify(DIGITS[0], model="lenet5")
        assert answer.predictions[0].label == DIGITS[0].name.split("-")[0]
        server.process.terminate()
        _, log = server.process.communicate()
    assert "twin.onnx on cpu int8, 1 x 1 threads" in log


def test_each_of_several_workers_takes_its_share_of_a_plan_for_the_whole_machine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    model = tmp_path / "model.onnx"
    shutil.copy(BUNDLED, model)
    source = ModelSource.read(model)
    plan = Plan(threads=4, instances=2, max_batch_size=3)
    key = tuned_key(source.sha256, 8)
    Tuned(key, {"throughput": plan, "latency": plan}).write(tuned_path(model))
    worker = Planner(Plan(threads=2), "throughput", any_provider=True, processors=2, shared=True)
    assert worker.choose(source).plan == default_plan("cpu", "fp32", 2, 3)
    assert "was tuned on 8 processors; here are 2" in caplog.text
    Tuned({**key, "processors": 2}, {"throughput": plan, "latency": plan}).write(tuned_path(model))
    assert worker.choose(source).plan == plan


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[" * 100_000,
        '{"schema": "convlens.tuned/1"}',
        '{"schema": "convlens.tuned/2"}',
    ],
)
def test_a_broken_file_of_findings_is_ignored(
    text: str, tmp_path: Path, planner: Planner, caplog: pytest.LogCaptureFixture
) -> None:
    model = tmp_path / "model.onnx"
    shutil.copy(BUNDLED, model)
    tuned_path(model).write_text(text)
    assert planner.choose(ModelSource.read(model)).plan == planner.base
    assert "is ignored" in caplog.text


def _tuned(folder: Path) -> tuple[ModelSource, Path, dict[str, Any]]:
    """A model, the file of what was found for it, and that file's content."""
    source = ModelSource.read(Path(shutil.copy(BUNDLED, folder / "model.onnx")))
    path = tuned_path(source.path)
    Tuned(tuned_key(source.sha256, 2), {"throughput": Plan(), "latency": Plan()}).write(path)
    return source, path, json.loads(path.read_text())


def test_a_twin_that_is_none_is_ignored(
    tmp_path: Path, planner: Planner, caplog: pytest.LogCaptureFixture
) -> None:
    source, path, value = _tuned(tmp_path)
    value["twins"] = {"throughput": {"path": 1, "sha256": "0"}}
    path.write_text(json.dumps(value))
    assert planner.choose(source).plan == planner.base
    assert "path and sha256 of a twin are texts" in caplog.text


@pytest.mark.parametrize("field", [{"provider": "abacus"}, {"threads": 0}, {"speed": 1}])
def test_a_plan_that_cannot_be_is_ignored(
    field: dict[str, object], tmp_path: Path, planner: Planner
) -> None:
    source, path, value = _tuned(tmp_path)
    value["plans"]["throughput"].update(field)
    path.write_text(json.dumps(value))
    assert planner.choose(source).plan == planner.base


def test_another_class_first_or_an_output_far_away_does_not_agree() -> None:
    expected = np.eye(200, 10, dtype=np.float32)
    assert compare([expected], [expected]) == Agreement(1.0, 0.0)
    far = expected.copy()
    far[0, 0] += 0.2
    assert not compare([far], [expected]).holds(random_weights=True)
    other = expected.copy()
    other[:4] = other[:4, ::-1]
    assert compare([other], [expected]).top1 == pytest.approx(0.98)
    assert not Agreement(0.98, 0.01).holds(random_weights=False)
    assert Agreement(0.98, 0.01).holds(random_weights=True)
