"""The servicer of `convlens.v1.Classifier`: it translates messages and leaves the work."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakKeyDictionary

from convlens.analysis import analyze
from convlens.analysis.errors import AnalysisError
from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc as pb_grpc
from convlens.server.errors import ModelLoadError, ServerError, status_code
from convlens.server.failures import public_message
from convlens.server.model import Model
from convlens.server.providers import ModelSource
from convlens.server.repository import Repository
from convlens.server.rpc import cost_trailers, deadline_of
from convlens.server.served_model import Classification, ServedModel
from convlens.server.statistics import microseconds
from convlens.server.streaming import answer_stream
from convlens.server.version import State, Version

STATES = {
    State.LOADING: pb.STATE_LOADING,
    State.READY: pb.STATE_READY,
    State.FAILED: pb.STATE_FAILED,
    State.UNLOADING: pb.STATE_UNLOADING,
    State.UNLOADED: pb.STATE_UNLOADED,
}


class ClassifierServicer(pb_grpc.ClassifierServicer):
    """Answers the RPCs of `convlens.v1.Classifier`.

    Args:
        repository: the models.
        stream_window: the most pictures of one stream that may be in flight.
    """

    def __init__(self, repository: Repository, stream_window: int) -> None:
        self._repository = repository
        self._stream_window = stream_window
        self._analyses: WeakKeyDictionary[ServedModel, str] = WeakKeyDictionary()

    async def Classify(self, request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:
        """Classify one picture; the trailers tell what it cost and where the weights are from."""
        classification = await self._classify(request, context, wait_for_place=False)
        context.set_trailing_metadata(cost_trailers(classification.timing, classification.model))
        return _response(request, classification)

    async def ClassifyStream(
        self, request_iterator: AsyncIterator[pb.ClassifyRequest], context: Any
    ) -> AsyncIterator[pb.ClassifyResponse]:
        """Classify pictures as they come, several at a time, and answer in order of completion."""

        async def answer(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
            return await self._answer(request, context)

        async for response in answer_stream(
            request_iterator, answer, self._stream_window, in_order=False
        ):
            yield response

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Any
    ) -> pb.ListModelsResponse:
        """List every version of every model, those that failed included."""
        return pb.ListModelsResponse(
            models=[self._summary(version) for version in self._repository.visible]
        )

    async def DescribeModel(
        self, request: pb.DescribeModelRequest, context: Any
    ) -> pb.DescribeModelResponse:
        """Tell all about one model; its analysis is made once, of the very file that answers."""
        version = self._repository.describe(request.model, request.version)
        response = pb.DescribeModelResponse(summary=self._summary(version))
        if version.served is not None:
            served = version.served
            response.metadata.update(served.model.metadata)
            response.labels.extend(served.model.card.labels or ())
            if served not in self._analyses:
                self._analyses[served] = await asyncio.to_thread(_analysis, served.model)
            response.analysis_json = self._analyses[served]
        return response

    def _summary(self, version: Version) -> pb.ModelSummary:
        summary = _summary(version)
        summary.is_default = self._repository.is_default(version)
        return summary

    async def _classify(
        self, request: pb.ClassifyRequest, context: Any, *, wait_for_place: bool
    ) -> Classification:
        async def classify(served: ServedModel) -> Classification:
            return await served.classify(
                request.image, request.top_k, deadline_of(context), wait_for_place=wait_for_place
            )

        return await self._repository.ask(request.model, request.version, classify)

    async def _answer(self, request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:
        """One answer of a stream: an error is said in it, so that the stream goes on."""
        try:
            return _response(request, await self._classify(request, context, wait_for_place=True))
        except Exception as error:  # noqa: BLE001 - any failure concerns this picture alone
            return pb.ClassifyResponse(
                request_id=request.request_id,
                error=pb.Error(code=status_code(error).value[0], message=public_message(error)),
            )


def _analysis(model: Model) -> str:
    """The analysis of what answers, as JSON; empty where its file is another one by now."""
    try:
        report = analyze(model.path).to_json()
        is_the_same = ModelSource.read(model.path).sha256 == model.sha256
    except (AnalysisError, ModelLoadError) as error:
        if not model.path.exists():
            return ""
        raise ServerError(f"model {model.name!r} cannot be analysed: {error}") from error
    return json.dumps(report) if is_the_same else ""


def _response(request: pb.ClassifyRequest, answer: Classification) -> pb.ClassifyResponse:
    timing = answer.timing
    return pb.ClassifyResponse(
        predictions=[
            pb.Prediction(index=entry.index, label=entry.label, probability=entry.probability)
            for entry in answer.predictions
        ],
        model=answer.model.name,
        version=answer.model.version,
        timing=pb.Timing(
            decode_us=microseconds(timing.decode_seconds),
            queue_us=microseconds(timing.queue_seconds),
            infer_us=microseconds(timing.infer_seconds),
            total_us=microseconds(timing.total_seconds),
            batch_size=timing.batch_size,
        ),
        request_id=request.request_id,
    )


def _summary(version: Version) -> pb.ModelSummary:
    summary = pb.ModelSummary(
        name=version.file.name,
        version=version.file.version,
        state=STATES[version.state],
        reason=version.reason,
        is_candidate=version.candidate,
    )
    if version.served is not None:
        model = version.served.model
        summary.provider = model.provider
        summary.precision = model.precision
        summary.pictures = model.takes_pictures
    return summary
