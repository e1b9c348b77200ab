"""The time of a batch is learnt from the runs."""

import math

import pytest

from convlens.server.batch_time import BatchTime


def learnt(*runs: tuple[int, float]) -> BatchTime:
    batch_time = BatchTime()
    for rows, seconds in runs:
        batch_time.learn(rows, seconds)
    return batch_time


def line(rows: int) -> tuple[int, float]:
    return rows, 0.003 * rows + 0.002


def test_nothing_is_predicted_before_the_first_run() -> None:
    assert BatchTime().predict(8) == 0.0


def test_one_run_is_taken_as_proportional() -> None:
    assert learnt((2, 0.010)).predict(4) == pytest.approx(0.020)


def test_the_line_through_runs_of_several_sizes_is_found() -> None:
    batch_time = learnt(*(line(rows) for rows in [1, 4, 8, 16] * 5))
    for rows in (1, 2, 12, 32):
        assert batch_time.predict(rows) == pytest.approx(line(rows)[1], rel=0.02)


def test_the_slope_outlives_many_runs_of_one_size() -> None:
    batch_time = learnt(*(line(rows) for rows in [1, 4, 8, 16] * 5 + [8] * 500))
    assert batch_time.predict(8) == pytest.approx(line(8)[1], rel=0.01)
    assert batch_time.predict(16) == pytest.approx(line(16)[1], rel=0.05)


def test_one_interrupted_run_hardly_counts() -> None:
    batch_time = learnt(*(line(rows) for rows in [1, 4, 8, 16] * 5), (8, 60.0))
    assert batch_time.predict(8) == pytest.approx(line(8)[1], rel=0.15)


def test_a_machine_that_has_become_slower_is_followed() -> None:
    batch_time = learnt(*(line(rows) for rows in [1, 4, 8, 16] * 5))
    for rows in [1, 4, 8, 16] * 25:
        batch_time.learn(rows, 10 * line(rows)[1])
    assert batch_time.predict(8) == pytest.approx(10 * line(8)[1], rel=0.05)


def test_larger_batches_that_took_less_never_make_a_prediction_negative() -> None:
    batch_time = learnt(*[(1, 0.020), (16, 0.004)] * 10)
    assert all(batch_time.predict(rows) >= 0.0 for rows in range(200))
    assert batch_time.predict(200) >= batch_time.predict(1)


def test_a_batch_grows_until_its_tightest_deadline_would_be_missed() -> None:
    batch_time = learnt(*(line(rows) for rows in [1, 4, 8, 16] * 5))
    spare_seconds = line(8)[1] + 0.001
    assert batch_time.admits(7, 1, spare_seconds)
    assert not batch_time.admits(8, 1, spare_seconds)
    assert batch_time.admits(8, 1, math.inf)


def test_a_deadline_that_is_missed_anyway_holds_nobody_back() -> None:
    batch_time = learnt(*(line(rows) for rows in [1, 4, 8, 16] * 5))
    assert batch_time.admits(4, 4, spare_seconds=0.001)
