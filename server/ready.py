"""What the server says of itself once it answers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Ready:
    """Where it listens, and what it serves.

    Attributes:
        address: of the gRPC server, "host:port".
        metrics_url: of /metrics; empty for a worker, whose supervisor has it.
        providers: what runs the models.
        models: the names of those that are ready.
        failed: path and reason of those that are not.
    """

    address: str
    metrics_url: str
    providers: tuple[str, ...]
    models: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
