"""The histogram of latencies: percentiles to a quarter of a percent, in constant memory."""

import numpy as np
import pytest

from convlens.client.histogram import BUCKETS, Histogram

SECONDS = np.random.default_rng(0).lognormal(-5, 2, 20_000)


def _of(seconds: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Histogram:
    histogram = Histogram()
    for value in seconds:
        histogram.record(float(value))
    return histogram


def test_percentiles_are_those_of_the_values() -> None:
    histogram = _of(SECONDS)
    for percent in (1, 50, 90, 99, 99.9):
        exact = np.percentile(SECONDS, percent, method="inverted_cdf")
        assert histogram.percentile_seconds(percent) == pytest.approx(exact, rel=0.0026)
    assert histogram.percentile_seconds(100) == pytest.approx(SECONDS.max(), rel=0.0026)
    assert histogram.mean_seconds == pytest.approx(SECONDS.mean())
    assert histogram.longest_seconds == SECONDS.max()


def test_two_histograms_together_are_that_of_all_values() -> None:
    together = _of(SECONDS[:5000])
    together.add(_of(SECONDS[5000:]))
    expected = _of(SECONDS)
    assert together.counts == expected.counts
    assert together.count == expected.count


def test_extreme_values_and_none_at_all_are_held() -> None:
    histogram = _of(np.array([0.0, 1e-9, 1e5]))
    assert len(histogram.counts) == BUCKETS
    assert histogram.count == 3
    assert Histogram().percentile_seconds(50) == 0.0
