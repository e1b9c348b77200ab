"""Several processes' metrics on one page."""

import json

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.registry import Collector

from convlens.server.families import (
    Families,
    accumulated,
    merge_families,
    read_families,
    to_metrics,
)


def _page(calls: int, in_flight: int, load_seconds: float) -> Families:
    registry = CollectorRegistry()
    counter = Counter("calls_total", "Calls.", ["code"], registry=registry)
    counter.labels("OK").inc(calls)
    Gauge("convlens_in_flight", "In flight.", registry=registry).set(in_flight)
    Gauge("convlens_model_load_seconds", "Load.", registry=registry).set(load_seconds)
    histogram = Histogram("seconds", "Time.", buckets=(1.0, 2.0), registry=registry)
    for _ in range(calls):
        histogram.observe(1.5)
    families: Families = json.loads(json.dumps(read_families(registry)))  # as it travels
    return families


def _text(families: Families) -> list[str]:
    class Page(Collector):
        def collect(self) -> list[Metric]:
            return list(to_metrics(families))

    registry = CollectorRegistry()
    registry.register(Page())
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#") and "_created" not in line]


def test_amounts_are_added_and_what_is_no_amount_is_not() -> None:
    assert _text(merge_families([_page(3, 1, 0.5), _page(4, 2, 0.25)])) == [
        'calls_total{code="OK"} 7.0',
        "convlens_in_flight 3.0",
        "convlens_model_load_seconds 0.5",
        'seconds_bucket{le="1.0"} 0.0',
        'seconds_bucket{le="2.0"} 7.0',
        'seconds_bucket{le="+Inf"} 7.0',
        "seconds_count 7.0",
        "seconds_sum 10.5",
    ]


def test_of_a_process_that_is_gone_only_its_counts_stay() -> None:
    kept = accumulated(_page(3, 1, 0.5))
    text = _text(merge_families([kept, _page(1, 0, 0.1)]))
    assert 'calls_total{code="OK"} 4.0' in text
    assert "convlens_in_flight 0.0" in text
    assert "convlens_model_load_seconds 0.1" in text


def test_a_page_of_one_process_is_what_it_was() -> None:
    page = _page(2, 1, 0.5)
    assert merge_families([page]) == merge_families([merge_families([page])])
    assert len(_text(page)) == len(_text(merge_families([page]))) == 8
