"""When a request will most likely be answered."""

import numpy as np
import pytest

from convlens.server.pace import Pace


def _answer(pace: Pace, in_flight: int, seconds: float) -> None:
    """One request after the other: each begins when the last one has been answered."""
    pace.learn(in_flight, seconds, pace.expect(in_flight))


def test_a_steady_server_is_predicted_for_more_than_was_ever_in_flight() -> None:
    pace = Pace()
    for _ in range(20):
        for in_flight in (1, 2, 4, 8):
            _answer(pace, in_flight, 0.01 + 0.02 * in_flight)
    assert pace.predict(16) == pytest.approx(0.33, rel=0.05)


def test_an_unsteady_server_is_given_a_margin() -> None:
    rng = np.random.RandomState(0)
    pace, seconds = Pace(), rng.uniform(0.05, 0.15, 400)
    for value in seconds[:200]:
        _answer(pace, 4, value)
    within = np.mean(seconds[200:] <= pace.predict(4))
    assert within > 0.9
    assert pace.predict(4) < 0.25


def test_a_server_that_recovers_is_trusted_again() -> None:
    pace = Pace()
    for seconds in (2.0, *[0.1] * 100):
        _answer(pace, 1, seconds)
    assert pace.predict(1) < 0.15


def test_before_the_first_answer_nothing_is_expected_to_be_late() -> None:
    assert Pace().predict(100) == 0.0


def test_a_server_that_answers_nobody_in_time_is_found_out() -> None:
    pace = Pace()
    _answer(pace, 4, 0.1)
    for _ in range(50):
        pace.learn_at_least(4, 0.5, pace.expect(4))
        # Its caller went away at once: that says nothing.
        pace.learn_at_least(4, 0.01, pace.expect(4))
    assert pace.predict(4) >= 0.4


def test_what_was_learnt_meanwhile_does_not_hide_how_far_off_a_prediction_was() -> None:
    """Forty requests that began together, before the machine became slower by a half."""
    pace = Pace()
    for _ in range(100):
        _answer(pace, 40, 0.4)
    assert pace.predict(40) == pytest.approx(0.4, rel=0.01)
    expected = pace.expect(40)
    for _ in range(40):
        pace.learn(40, 0.6, expected)
    assert pace.predict(40) - pace.expect(40) == pytest.approx(2 * 0.2, rel=0.05)


def test_who_began_before_the_first_answer_tells_nothing_of_predictions() -> None:
    pace = Pace()
    for _ in range(40):
        pace.learn(8, 0.4, 0.0)
    assert pace.predict(8) < 0.5
