"""What the event loop counts looks to Prometheus as if its own client had counted it."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from convlens.server.tallies import Counts, Distributions

BUCKETS = (0.001, 1, 2.5)


def test_a_page_is_the_one_that_prometheus_client_would_show() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counts = Counts("calls_total", "Calls.", ("method", "code"), ours)
    counter = Counter("calls_total", "Calls.", ("method", "code"), registry=theirs)
    distributions = Distributions("seconds", "Time.", ("stage",), ours, buckets=BUCKETS)
    histogram = Histogram("seconds", "Time.", ("stage",), buckets=BUCKETS, registry=theirs)
    for labels in (("Classify", "OK"), ("Classify", "INTERNAL"), ("Classify", "OK")):
        counts.labels(*labels).inc()
        counter.labels(*labels).inc()
    for value in (0.0, 0.001, 0.5, 2.5, 3.0):  # on a bound, between, beyond
        distributions.labels("infer").observe(value)
        histogram.labels("infer").observe(value)

    page = generate_latest(theirs).decode().splitlines()
    wanted = [line for line in page if "_created" not in line]
    assert generate_latest(ours).decode().splitlines() == wanted


def test_a_value_that_several_rows_share_is_observed_once_for_each() -> None:
    registry = CollectorRegistry()
    stage = Distributions("seconds", "Time.", ("stage",), registry, buckets=BUCKETS)
    stage.labels("infer").observe(0.5, times=4)
    assert registry.get_sample_value("seconds_count", {"stage": "infer"}) == 4
    assert registry.get_sample_value("seconds_sum", {"stage": "infer"}) == 2.0
    assert registry.get_sample_value("seconds_bucket", {"stage": "infer", "le": "0.001"}) == 0


def test_what_is_removed_by_some_of_its_labels_leaves_the_others() -> None:
    registry = CollectorRegistry()
    counts = Counts("runs_total", "Runs.", ("model", "stage"), registry)
    for model in ("old", "new"):
        for stage in ("decode", "infer"):
            counts.labels(model, stage).inc()
    counts.remove_by_labels({"model": "old"})
    page = generate_latest(registry).decode()
    assert 'model="old"' not in page
    assert page.count('model="new"') == 2
