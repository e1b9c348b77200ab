"""What is asked and what is answered, as plain values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from convlens.client.errors import ClientError, InvalidArgumentError
from convlens.client.pictures import Picture
from convlens.proto import classifier_pb2 as pb

Metadata = Iterable[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Prediction:
    """One class and its probability; the label is empty where the model carries none."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Timing:
    """Where the server spent its time on one picture, in microseconds."""

    decode_us: int
    queue_us: int
    infer_us: int
    total_us: int
    batch_size: int


@dataclass(frozen=True)
class Classification:
    """The answer to one picture.

    Attributes:
        predictions: the most probable first.
        model: that answered.
        version: of the model.
        timing: on the server.
        weights_origin: "trained", "torchvision", "package", "file"; "random" is no classifier at
            all; empty where the model's file is silent.
    """

    predictions: tuple[Prediction, ...]
    model: str
    version: str
    timing: Timing
    weights_origin: str

    @property
    def label(self) -> str:
        """Of the most probable class; empty where the model carries no labels."""
        return self.predictions[0].label

    @property
    def probability(self) -> float:
        """Of the most probable class."""
        return self.predictions[0].probability


@dataclass(frozen=True)
class Outcome:
    """What became of one picture of many.

    Attributes:
        index: of the picture among those that were given, from 0.
        picture: as it was given.
        answer: the classification, or why there is none.
    """

    index: int
    picture: Picture
    answer: Classification | ClientError

    @property
    def error(self) -> ClientError | None:
        """Why there is no classification; None where there is one."""
        return self.answer if isinstance(self.answer, ClientError) else None

    @property
    def classification(self) -> Classification:
        """The classification.

        Raises:
            ClientError: the picture failed; it is `error`.
        """
        if isinstance(self.answer, ClientError):
            raise self.answer
        return self.answer


@dataclass(frozen=True)
class ModelSummary:
    """One version of a model that the server knows.

    Attributes:
        name: of the model.
        version: of the model.
        state: "loading", "ready", "failed", "unloading" or "unloaded".
        reason: why it is not ready; empty where it is.
        provider: what runs it.
        precision: of its weights.
        pictures: whether it takes pictures.
    """

    name: str
    version: str
    state: str
    reason: str
    provider: str
    precision: str
    pictures: bool


@dataclass(frozen=True)
class ModelDescription:
    """All about one model: its summary, its file's metadata, its labels, its analysis as JSON."""

    summary: ModelSummary
    metadata: Mapping[str, str]
    labels: tuple[str, ...]
    analysis_json: str


def classify_request(model: str, version: str, image: bytes, top_k: int) -> pb.ClassifyRequest:
    """Ask for one picture.

    Raises:
        InvalidArgumentError: a value cannot be sent.
    """
    try:
        return pb.ClassifyRequest(model=model, version=version, image=image, top_k=top_k)
    except ValueError as error:
        text = f"not to be sent: model {model!a}, version {version!a}, top_k {top_k}"
        raise InvalidArgumentError("INVALID_ARGUMENT", text) from error


def describe_request(model: str, version: str) -> pb.DescribeModelRequest:
    """Ask for one model.

    Raises:
        InvalidArgumentError: a value cannot be sent.
    """
    try:
        return pb.DescribeModelRequest(model=model, version=version)
    except ValueError as error:
        text = f"not to be sent: model {model!a}, version {version!a}"
        raise InvalidArgumentError("INVALID_ARGUMENT", text) from error


def classification(response: pb.ClassifyResponse, trailers: Metadata) -> Classification:
    """Read a response and its trailers."""
    timing = response.timing
    return Classification(
        predictions=tuple(
            Prediction(entry.index, entry.label, entry.probability)
            for entry in response.predictions
        ),
        model=response.model,
        version=response.version,
        timing=Timing(
            decode_us=timing.decode_us,
            queue_us=timing.queue_us,
            infer_us=timing.infer_us,
            total_us=timing.total_us,
            batch_size=timing.batch_size,
        ),
        weights_origin=str(dict(trailers).get("convlens-weights-origin", "")),
    )


def model_summary(message: pb.ModelSummary) -> ModelSummary:
    """Read one entry of the list of models."""
    return ModelSummary(
        name=message.name,
        version=message.version,
        state=pb.State.Name(message.state).removeprefix("STATE_").lower(),
        reason=message.reason,
        provider=message.provider,
        precision=message.precision,
        pictures=message.pictures,
    )


def model_summaries(message: pb.ListModelsResponse) -> tuple[ModelSummary, ...]:
    """Read the list of models."""
    return tuple(model_summary(entry) for entry in message.models)


def model_description(message: pb.DescribeModelResponse) -> ModelDescription:
    """Read the description of a model."""
    return ModelDescription(
        summary=model_summary(message.summary),
        metadata=dict(message.metadata),
        labels=tuple(message.labels),
        analysis_json=message.analysis_json,
    )
