"""What the operator decides."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field

from convlens.server.logs import LogFormat
from convlens.server.plan import ConvolutionSearch, Precision

Provider = Literal["auto", "cpu", "openvino", "cuda", "tensorrt"]

BUNDLED_MODELS = Path(__file__).parent / "bundled" / "models"

Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Settings(BaseModel):
    """The server's settings: each field is a flag, an environment variable and a TOML key.

    A field's description is the flag's help; its examples are what stands for the value there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: Path = Field(
        BUNDLED_MODELS,
        examples=["DIR"],
        description="folder of NAME.onnx or NAME/VERSION/model.onnx (default: the bundled model)",
    )
    watch: bool = Field(False, description="load and unload as files come, change and go")
    aliases: Mapping[str, str] = Field(
        {},
        examples=["ALIAS=NAME[@VERSION]"],
        description="another name for a model; may be repeated",
    )
    default_model: str = Field(
        "", examples=["NAME"], description="answers requests that name no model"
    )
    memory_budget: ByteSize = Field(
        ByteSize(0),
        examples=["SIZE"],
        description="for all models together, such as 2GiB: they are loaded when they are asked "
        "for, and the least recently used one makes room; 0: all are loaded, and stay",
    )
    candidates: Mapping[str, Annotated[str, Field(pattern=r"^\d+$")]] = Field(
        {},
        examples=["NAME@VERSION"],
        description="a version that gets copies of its model's requests, to be compared with the "
        "answers given; may be repeated",
    )
    candidate_share: float = Field(
        1.0, ge=0, le=1, examples=["SHARE"], description="of the requests that are copied"
    )
    promote_at: float = Field(
        0.0,
        ge=0,
        le=1,
        examples=["SHARE"],
        description="makes a candidate the default once its first prediction is the same in this "
        "share; 0: never",
    )
    promote_after: Count = Field(
        1000, examples=["ROWS"], description="that are compared before each such decision"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: Port = Field(50051, description="of the gRPC server; 0: a free one")
    metrics_port: Port = Field(9464, description="of /metrics, /livez, /readyz; 0: a free one")
    metrics_host: str = Field(
        "", description="address of the metrics port, for those who watch (default: as --host)"
    )
    provider: Provider = Field(
        "auto",
        description="what runs the models; auto: what they were tuned for, else CUDA where it "
        "works, else the CPU",
    )
    runtime_precision: Precision = Field(
        "fp32", description="of the arithmetic of models that were not tuned"
    )
    tuned: Literal["throughput", "latency", "off"] = Field(
        "throughput", description="which of the findings of `convlens tune` are used"
    )
    cache_dir: Path | None = Field(
        None,
        examples=["DIR"],
        description="of optimised models (default: convlens in $XDG_CACHE_HOME or ~/.cache)",
    )
    gpu_device: int = Field(0, ge=0, examples=["N"], description="the GPU's number")
    gpu_memory_bytes: int = Field(
        0, ge=0, examples=["BYTES"], description="that a model may take on the GPU; 0: no bound"
    )
    tf32: bool = Field(False, description="let the GPU round fp32 products to TensorFloat-32")
    convolution_search: ConvolutionSearch = Field(
        "exhaustive", description="how cuDNN's algorithms are chosen; exhaustive measures them"
    )
    cuda_graphs: bool = Field(
        False, description="record a run once for each batch size, then replay it"
    )
    max_batch_size: Count = Field(
        16, examples=["PICTURES"], description="the most that share one inference"
    )
    max_delay_ms: float = Field(
        0.0,
        ge=0,
        le=1000,
        examples=["MILLISECONDS"],
        description="how long a request may wait for company while the model is busy",
    )
    queue_size: Count = Field(
        256, examples=["PICTURES"], description="the most in flight for one model; more are refused"
    )
    max_in_flight_per_client: int = Field(
        0,
        ge=0,
        examples=["PICTURES"],
        description="the most in flight for one token, or else one address; 0: no such limit",
    )
    stream_window: Count = Field(
        16, examples=["PICTURES"], description="the most in flight for one stream"
    )
    max_message_bytes: Count = Field(
        32 * 1024 * 1024, examples=["BYTES"], description="the largest request"
    )
    held_memory: ByteSize = Field(
        ByteSize(256 << 20),
        ge=0,
        examples=["SIZE"],
        description="for requests that are not read yet and answers that are not taken; beyond it "
        "calls are refused; at least two of the largest requests",
    )
    max_metadata_bytes: Count = Field(
        16 * 1024, examples=["BYTES"], description="the largest metadata of a request"
    )
    max_pixels: Count = Field(
        64_000_000, examples=["PIXELS"], description="the largest picture, judged on its header"
    )
    approximate_decoding: bool = Field(
        False,
        description="decode large JPEGs at a fraction of their size, resize by SIMD: faster, with "
        "slightly different pixels",
    )
    workers: int = Field(
        1,
        ge=1,
        le=1024,
        description="processes that share the port; a supervisor replaces one that dies",
    )
    threads: int = Field(
        0,
        ge=0,
        le=4096,
        description="of each worker, for decoding and for inference; 0: the processors, shared "
        "among the workers",
    )
    tls_cert: Path | None = Field(None, examples=["FILE"], description="certificate, PEM")
    tls_key: Path | None = Field(None, examples=["FILE"], description="its key, PEM")
    tls_client_ca: Path | None = Field(
        None, examples=["FILE"], description="who signs the certificates that clients must show"
    )
    tokens: Path | None = Field(
        None, examples=["FILE.toml"], description="hashes of the tokens that open the server"
    )
    log_format: LogFormat = Field("text", description="of the lines on stderr: text or json")
    access_log: float = Field(
        0.0, ge=0, le=1, examples=["SHARE"], description="the share of calls to log, 0 to 1"
    )
    grace_seconds: float = Field(
        10.0,
        ge=0,
        allow_inf_nan=False,
        examples=["SECONDS"],
        description="for requests in flight to finish after SIGTERM",
    )
