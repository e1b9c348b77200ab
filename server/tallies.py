"""Counters and histograms that one thread alone writes: the event loop's.

prometheus_client's own, which any thread may write, take several locks and checks for each
observation. An answer is observed seven times: that was a tenth of what it cost.
"""

import math
from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Child = TypeVar("Child", "Count", "Distribution")


class Count:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self) -> None:
        """Count one more."""
        self.value += 1


class Distribution:
    """How many observations fell into each bucket, and their sum.

    Args:
        bounds: of the buckets, upwards; what is beyond them is counted too.
    """

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, which may have been observed several times."""
        self.counts[bisect_left(self._bounds, value)] += times
        self.total += value * times


class _Family(Collector, Generic[Child]):
    """What is counted under one name, by its labels.

    Args:
        name: of the metric.
        documentation: of the metric.
        labels: their names.
        registry: that shows it.
    """

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._children: dict[tuple[str, ...], Child] = {}
        registry.register(self)

    def labels(self, *values: str) -> Child:
        """The one with these labels, in the order of their names."""
        if values not in self._children:
            self._children[values] = self._new()
        return self._children[values]

    def remove_by_labels(self, labels: Mapping[str, str]) -> None:
        """Drop those that have these labels among theirs."""
        for values in list(self._children):
            if labels.items() <= dict(zip(self._labels, values, strict=True)).items():
                del self._children[values]

    @abstractmethod
    def _new(self) -> Child: ...


class Counts(_Family[Count]):
    """Counters; see `_Family`."""

    def collect(self) -> Iterable[Metric]:
        """As prometheus_client wants it; called in the thread that is scraped."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, child in list(self._children.items()):
            family.add_metric(values, child.value)
        yield family

    def _new(self) -> Count:
        return Count()


class Distributions(_Family[Distribution]):
    """Histograms; see `_Family`.

    Args:
        buckets: their upper bounds, upwards.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        registry: CollectorRegistry,
        *,
        buckets: Sequence[float],
    ) -> None:
        self._bounds = tuple(map(float, buckets))
        self._bound_texts = [
            floatToGoString(bound)  # type: ignore[no-untyped-call]
            for bound in (*self._bounds, math.inf)
        ]
        super().__init__(name, documentation, labels, registry)

    def collect(self) -> Iterable[Metric]:
        """As prometheus_client wants it; called in the thread that is scraped."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, child in list(self._children.items()):
            cumulated = map(float, accumulate(list(child.counts)))
            buckets = list(zip(self._bound_texts, cumulated, strict=True))
            family.add_metric(values, buckets, child.total)
        yield family

    def _new(self) -> Distribution:
        return Distribution(self._bounds)
