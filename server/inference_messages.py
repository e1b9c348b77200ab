"""What the server says of its models, as messages of the Open Inference Protocol."""

from collections.abc import Iterable, Sequence

from convlens.proto import inference_pb2 as pb
from convlens.server.model import Model
from convlens.server.picture_tensor import PICTURES
from convlens.server.statistics import Duration, Statistics, microseconds
from convlens.server.tensor import TensorSpec
from convlens.server.version import State, Version

STATES = {
    State.LOADING: "LOADING",
    State.READY: "READY",
    State.FAILED: "UNAVAILABLE",
    State.UNLOADING: "UNLOADING",
    State.UNLOADED: "UNAVAILABLE",
}

FORMATS = {"NCHW": pb.ModelInput.FORMAT_NCHW, "NHWC": pb.ModelInput.FORMAT_NHWC}

KINDS = {
    "cpu": pb.ModelInstanceGroup.KIND_CPU,
    "openvino": pb.ModelInstanceGroup.KIND_CPU,
    "cuda": pb.ModelInstanceGroup.KIND_GPU,
    "tensorrt": pb.ModelInstanceGroup.KIND_GPU,
}

PROMOTED = "it was promoted: it goes before the versions that were there"

TensorMetadata = pb.ModelMetadataResponse.TensorMetadata


def model_metadata(model: Model, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """The tensors of a model; the batch axis, where there is one, is the first.

    Args:
        model: described.
        versions: of that name, which are ready.
    """
    return pb.ModelMetadataResponse(
        name=model.name,
        versions=versions,
        platform="onnx_onnxv1",
        inputs=[_metadata(spec) for spec in model.signature.inputs],
        outputs=[_metadata(spec) for spec in model.signature.outputs],
    )


def model_config(
    model: Model, max_batch_size: int, max_delay_seconds: float
) -> pb.ModelConfigResponse:
    """How a model is run, in the words of Triton's configuration.

    Args:
        model: described.
        max_batch_size: the most rows that share a run, if requests share runs.
        max_delay_seconds: how long a request may wait for others.
    """
    batched = model.signature.batched
    preprocessing = model.card.preprocessing
    config = pb.ModelConfig(
        name=model.name,
        platform="onnxruntime_onnx",
        backend="onnxruntime",
        max_batch_size=max_batch_size if batched else 0,
        input=[
            pb.ModelInput(
                name=spec.name,
                data_type=_data_type(spec),
                format=FORMATS[preprocessing.layout]
                if preprocessing
                else pb.ModelInput.FORMAT_NONE,
                dims=_shape(spec)[1:] if batched else _shape(spec),
            )
            for spec in model.signature.inputs
        ],
        output=[
            pb.ModelOutput(
                name=spec.name,
                data_type=_data_type(spec),
                dims=_shape(spec)[1:] if batched else _shape(spec),
            )
            for spec in model.signature.outputs
        ],
        instance_group=[
            pb.ModelInstanceGroup(
                name=model.name,
                kind=KINDS[model.provider],
                count=model.plan.instances,
            )
        ],
        default_model_filename=model.path.name,
    )
    if batched:
        config.dynamic_batching.max_queue_delay_microseconds = microseconds(max_delay_seconds)
    if model.takes_pictures:
        config.parameters["pictures"].string_value = PICTURES
    return pb.ModelConfigResponse(config=config)


def model_statistics(name: str, version: str, statistics: Statistics) -> pb.ModelStatistics:
    """What one version has served."""
    return pb.ModelStatistics(
        name=name,
        version=version,
        last_inference=int(statistics.last_run_seconds * 1e3),
        inference_count=statistics.rows,
        execution_count=sum(duration.count for duration in statistics.batches.values()),
        inference_stats=pb.InferStatistics(
            success=_duration(statistics.success),
            fail=_duration(statistics.fail),
            queue=_duration(statistics.queue),
            compute_input=_duration(statistics.decode),
            compute_infer=_duration(statistics.infer),
            compute_output=_duration(statistics.encode),
        ),
        batch_stats=[
            pb.InferBatchStatistics(batch_size=size, compute_infer=_duration(duration))
            for size, duration in sorted(statistics.batches.items())
        ],
    )


def repository_index(versions: Iterable[Version]) -> pb.RepositoryIndexResponse:
    """Name, state and reason of each version; that one was promoted is said as its reason."""
    return pb.RepositoryIndexResponse(
        models=[
            pb.RepositoryIndexResponse.ModelIndex(
                name=entry.file.name,
                version=entry.file.version,
                state=STATES[entry.state],
                reason=entry.reason or (PROMOTED if entry.promoted_over else ""),
            )
            for entry in versions
        ]
    )


def _metadata(spec: TensorSpec) -> TensorMetadata:
    return TensorMetadata(name=spec.name, datatype=spec.datatype, shape=_shape(spec))


def _shape(spec: TensorSpec) -> list[int]:
    return [-1 if length is None else length for length in spec.shape]


def _data_type(spec: TensorSpec) -> pb.DataType.ValueType:
    name = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return pb.DataType.Value(f"TYPE_{name}")


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=round(duration.seconds * 1e9))
