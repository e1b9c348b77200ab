"""Metrics of several processes as one page.

Each worker hands over the samples that it would have shown. Nothing is written while requests are
answered, as prometheus_client's own multiprocess mode does with its memory-mapped files, and any
kind of collector works.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Metric

# Of each family: name, documentation, type, and samples of name, labels, value.
Families = list[tuple[str, str, str, list[tuple[str, dict[str, str], float]]]]

# What is the same in each process, or is no amount; all else is added up.
RULES: dict[str, Callable[[float, float], float]] = {
    "convlens_candidate_promotions": max,
    "convlens_default_version": max,
    "convlens_model_failed": max,
    "convlens_model_info": max,
    "convlens_model_load_seconds": max,
    "process_max_fds": min,
    "process_start_time_seconds": min,
    "python_info": max,
}
ACCUMULATED = frozenset({"counter", "histogram", "summary"})


def read_families(registry: CollectorRegistry) -> Families:
    """The present values of a registry, as JSON can carry them."""
    return [
        (
            metric.name,
            metric.documentation,
            metric.type,
            [(sample.name, sample.labels, sample.value) for sample in metric.samples],
        )
        for metric in registry.collect()
    ]


def accumulated(families: Families) -> Families:
    """Counters and histograms alone: what was counted stays counted when its process is gone."""
    return [family for family in families if family[2] in ACCUMULATED]


def merge_families(pages: Iterable[Families]) -> Families:
    """Add up the samples that have the same name and labels; `RULES` has the exceptions."""
    merged: dict[str, tuple[str, str, dict[Any, float]]] = {}
    for page in pages:
        for name, documentation, kind, samples in page:
            values = merged.setdefault(name, (documentation, kind, {}))[2]
            rule = RULES.get(name, float.__add__)
            for sample, labels, value in samples:
                key = (sample, tuple(labels.items()))
                values[key] = rule(values[key], float(value)) if key in values else float(value)
    return [
        (name, documentation, kind, [(key[0], dict(key[1]), value) for key, value in rows.items()])
        for name, (documentation, kind, rows) in merged.items()
    ]


def to_metrics(families: Families) -> Iterator[Metric]:
    """The families as a collector gives them to prometheus_client."""
    for name, documentation, kind, samples in families:
        metric = Metric(name, documentation, kind)
        for sample, labels, value in samples:
            metric.add_sample(sample, labels, value)
        yield metric
