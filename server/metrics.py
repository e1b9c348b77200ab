"""What Prometheus scrapes: names, labels, buckets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    PlatformCollector,
    ProcessCollector,
)

from convlens.server.tallies import Counts, Distribution, Distributions

STAGES = ("decode", "queue", "infer", "encode", "total")

# From 0.1 ms, where LeNet-5 runs, to 10 s, where callers have long given up.
SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class ModelMetrics:
    """The metrics of one version of a model, its labels filled in."""

    stages: dict[str, Distribution]
    batch_size: Distribution
    confidence: Distribution
    rejected: Callable[[str], None]


class CallMetrics:
    """What is counted of RPCs, as in the gRPC ecosystem's dashboards.

    Args:
        registry: that shows it.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        method = ("grpc_type", "grpc_service", "grpc_method")
        self.started = Counts(
            "grpc_server_started_total", "RPCs started on the server.", method, registry
        )
        self.handled = Counts(
            "grpc_server_handled_total",
            "RPCs completed on the server, whatever their outcome.",
            (*method, "grpc_code"),
            registry,
        )
        self.handling_seconds = Distributions(
            "grpc_server_handling_seconds",
            "Time from an RPC's arrival to its end, in the application.",
            method,
            registry,
            buckets=SECONDS,
        )


class Metrics:
    """All metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.calls = CallMetrics(registry)
        model = ("model", "version")
        self._infos: dict[tuple[str, str], tuple[str, ...]] = {}

        def distributions(
            name: str, documentation: str, buckets: Sequence[float], *more: str
        ) -> Distributions:
            return Distributions(name, documentation, (*model, *more), registry, buckets=buckets)

        def gauge(name: str, documentation: str, *more: str) -> Gauge:
            return Gauge(name, documentation, (*model, *more), registry=registry)

        self._stage_seconds = distributions(
            "convlens_stage_seconds",
            "Time of one picture or row of a tensor in one stage; infer is its batch's run.",
            SECONDS,
            "stage",
        )
        self._batch_size = distributions(
            "convlens_batch_size", "Pictures or rows that shared one inference.", BATCH_SIZES
        )
        self._confidence = distributions(
            "convlens_confidence", "Probability of the first prediction.", CONFIDENCES
        )
        self._queue_length = gauge(
            "convlens_queue_length", "Pictures or rows that wait for an inference."
        )
        self._in_flight = gauge(
            "convlens_in_flight", "Pictures or rows accepted and not yet answered."
        )
        self._rejected = Counts(
            "convlens_rejected_total",
            "Requests that were refused or dropped, by reason.",
            ("model", "reason"),
            registry,
        )
        self._model_info = gauge(
            "convlens_model_info",
            "The versions that are ready.",
            "provider",
            "precision",
            "sha256",
        )
        self._load_seconds = gauge(
            "convlens_model_load_seconds", "Time from opening the model's file to being ready."
        )

    def add_model(
        self,
        name: str,
        version: str,
        *,
        provider: str,
        precision: str,
        sha256: str,
        load_seconds: float,
        queue_length: Callable[[], float],
        in_flight: Callable[[], float],
    ) -> ModelMetrics:
        """Make the metrics of a model that has become ready; counts of its former file go on.

        Args:
            name: of the model.
            version: of the model.
            provider: what runs it.
            precision: of its weights.
            sha256: of its file.
            load_seconds: from opening the file to being ready.
            queue_length: is asked at each scrape.
            in_flight: likewise.
        """
        self._forget_info(name, version)
        self._infos[name, version] = (name, version, provider, precision, sha256)
        self._model_info.labels(*self._infos[name, version]).set(1)
        self._load_seconds.labels(name, version).set(load_seconds)
        self._queue_length.labels(name, version).set_function(queue_length)
        self._in_flight.labels(name, version).set_function(in_flight)
        return ModelMetrics(
            stages={stage: self._stage_seconds.labels(name, version, stage) for stage in STAGES},
            batch_size=self._batch_size.labels(name, version),
            confidence=self._confidence.labels(name, version),
            rejected=lambda reason: self._rejected.labels(name, reason).inc(),
        )

    def remove_model(self, name: str, version: str) -> None:
        """Drop the metrics of a version that is gone, so that no label grows without bound."""
        self._forget_info(name, version)
        for metric in (
            self._batch_size,
            self._confidence,
            self._queue_length,
            self._in_flight,
            self._load_seconds,
            self._stage_seconds,
        ):
            metric.remove_by_labels({"model": name, "version": version})

    def forget_model(self, name: str) -> None:
        """Drop what is counted of all versions of a model together, once the last one is gone."""
        self._rejected.remove_by_labels({"model": name})

    def _forget_info(self, name: str, version: str) -> None:
        labels = self._infos.pop((name, version), None)
        if labels is not None:
            self._model_info.remove(*labels)
