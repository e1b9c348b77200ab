"""What the operator decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Provider = Literal["auto", "cpu", "cuda"]

BUNDLED_MODELS = Path(__file__).parent / "bundled" / "models"


@dataclass(frozen=True)
class Settings:
    """The server's settings.

    Attributes:
        models: the folder of `name.onnx` files (or `name/version/model.onnx`).
        host: the address to listen on; loopback unless said otherwise.
        port: of the gRPC server; 0 takes a free one.
        metrics_port: of /metrics, /livez and /readyz; 0 takes a free one.
        provider: what runs the models; `auto` takes CUDA where it works, else the CPU.
        watch: whether files that come, change or go are loaded and unloaded as they do.
        aliases: other names for models: alias -> (model, version or empty for the latest).
        default_model: answers requests that name no model; needed only beside other models.
        max_batch_size: the most pictures that share one inference.
        queue_size: the most pictures of one model that may be waiting; more are refused.
        stream_window: the most pictures of one stream that may be in flight.
        max_message_bytes: the largest request.
        max_pixels: the largest picture, judged on its header before it is decoded.
        threads: for decoding and for inference; 0 takes as many as there are processors.
        grace_seconds: how long requests in flight may take to finish after SIGTERM.
    """

    models: Path = BUNDLED_MODELS
    host: str = "127.0.0.1"
    port: int = 50051
    metrics_port: int = 9464
    provider: Provider = "auto"
    watch: bool = False
    aliases: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    default_model: str = ""
    max_batch_size: int = 16
    queue_size: int = 256
    stream_window: int = 16
    max_message_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 64_000_000
    threads: int = 0
    grace_seconds: float = 10.0
