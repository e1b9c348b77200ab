"""What Prometheus scrapes of the models as they are loaded, evicted and compared."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class RepositoryMetrics:
    """The metrics of the repository, beside those that each model has while it is served.

    Args:
        registry: of the server's metrics.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        model = ("model", "version")
        self._default = Gauge(
            "convlens_default_version",
            "1 for the version that answers requests which name none.",
            model,
            registry=registry,
        )
        self._failed = Gauge(
            "convlens_model_failed",
            "1 for a version whose file, as it is now, could not be loaded.",
            model,
            registry=registry,
        )
        self._resident_bytes = Gauge(
            "convlens_resident_bytes",
            "Memory counted against --memory-budget for a version that is loaded.",
            model,
            registry=registry,
        )
        self.loads = Counter(
            "convlens_model_loads_total",
            "Loadings because a request came, by outcome.",
            (*model, "outcome"),
            registry=registry,
        )
        self.evictions = Counter(
            "convlens_model_evictions_total",
            "Versions that made room for another.",
            model,
            registry=registry,
        )
        self.agreement = Counter(
            "convlens_candidate_agreement_total",
            "Rows on which a candidate was compared: whether its first prediction was the same.",
            (*model, "agrees"),
            registry=registry,
        )
        self.not_compared = Counter(
            "convlens_candidate_not_compared_total",
            "Requests of which a candidate got no copy, as the server was busy.",
            model,
            registry=registry,
        )
        self.promotions = Counter(
            "convlens_candidate_promotions_total",
            "Candidates that became the default version.",
            model,
            registry=registry,
        )

    def resident(self, key: tuple[str, str], memory_bytes: int) -> None:
        """Note what a version takes; 0 once it is not loaded any more."""
        if memory_bytes:
            self._resident_bytes.labels(*key).set(memory_bytes)
        else:
            self._resident_bytes.remove_by_labels(dict(zip(("model", "version"), key, strict=True)))

    def failed(self, key: tuple[str, str], *, failed: bool) -> None:
        """Note whether a version's file could be loaded."""
        if failed:
            self._failed.labels(*key).set(1)
        else:
            self._failed.remove_by_labels(dict(zip(("model", "version"), key, strict=True)))

    def default(self, name: str, version: str | None) -> None:
        """Note which version of a model answers requests that name none."""
        self._default.remove_by_labels({"model": name})
        if version is not None:
            self._default.labels(name, version).set(1)

    def forget(self, key: tuple[str, str]) -> None:
        """Drop what was counted of a version that is gone, so that no label grows without bound."""
        labels = dict(zip(("model", "version"), key, strict=True))
        for metric in (
            self._failed,
            self._resident_bytes,
            self.loads,
            self.evictions,
            self.agreement,
            self.not_compared,
            self.promotions,
        ):
            metric.remove_by_labels(labels)
