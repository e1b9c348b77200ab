"""The servicer of `convlens.v1.Classifier`: it translates messages and leaves the work."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from typing import Any

from convlens.analysis import analyze
from convlens.analysis.errors import AnalysisError
from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc as pb_grpc
from convlens.server.errors import ServerError, status_code
from convlens.server.failures import public_message
from convlens.server.repository import Repository, State, Version
from convlens.server.served_model import Classification

STATES = {
    State.LOADING: pb.STATE_LOADING,
    State.READY: pb.STATE_READY,
    State.FAILED: pb.STATE_FAILED,
    State.UNLOADING: pb.STATE_UNLOADING,
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
        self._analyses: dict[str, str] = {}

    async def Classify(self, request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:
        """Classify one picture; the trailers tell what it cost and where the weights are from."""
        classification = await self._classify(request, context, wait_for_place=False)
        context.set_trailing_metadata(_trailers(classification))
        return _response(request, classification)

    async def ClassifyStream(
        self, request_iterator: AsyncIterator[pb.ClassifyRequest], context: Any
    ) -> AsyncIterator[pb.ClassifyResponse]:
        """Classify pictures as they come, several at a time, and answer in order of completion.

        A place in the window is free again once its answer has been written: a caller that stops
        reading stops being served.
        """
        window = asyncio.Semaphore(self._stream_window)
        answers: asyncio.Queue[pb.ClassifyResponse | None] = asyncio.Queue()

        async def answer(request: pb.ClassifyRequest) -> None:
            answers.put_nowait(await self._answer(request, context))

        async def read() -> None:
            try:
                async with asyncio.TaskGroup() as tasks:
                    async for request in request_iterator:
                        await window.acquire()
                        tasks.create_task(answer(request))
            finally:
                answers.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            while (response := await answers.get()) is not None:
                yield response
                window.release()
            await reader
        finally:
            reader.cancel()

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Any
    ) -> pb.ListModelsResponse:
        """List every version of every model, those that failed included."""
        return pb.ListModelsResponse(
            models=[_summary(version) for version in self._repository.versions]
        )

    async def DescribeModel(
        self, request: pb.DescribeModelRequest, context: Any
    ) -> pb.DescribeModelResponse:
        """Tell all about one model; its analysis is made once."""
        version = self._repository.describe(request.model, request.version)
        response = pb.DescribeModelResponse(summary=_summary(version))
        if version.served is not None:
            model = version.served.model
            response.metadata.update(model.metadata)
            response.labels.extend(model.card.labels or ())
            if model.sha256 not in self._analyses:
                self._analyses[model.sha256] = await asyncio.to_thread(_analysis, version)
            response.analysis_json = self._analyses[model.sha256]
        return response

    async def _classify(
        self, request: pb.ClassifyRequest, context: Any, *, wait_for_place: bool
    ) -> Classification:
        remaining = context.time_remaining()
        deadline = math.inf if remaining is None else time.monotonic() + remaining
        return await self._repository.classify(
            request.model,
            request.version,
            request.image,
            request.top_k,
            deadline,
            wait_for_place=wait_for_place,
        )

    async def _answer(self, request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:
        """One answer of a stream: an error is said in it, so that the stream goes on."""
        try:
            return _response(request, await self._classify(request, context, wait_for_place=True))
        except Exception as error:  # noqa: BLE001 - any failure concerns this picture alone
            return pb.ClassifyResponse(
                request_id=request.request_id,
                error=pb.Error(code=status_code(error).value[0], message=public_message(error)),
            )


def _analysis(version: Version) -> str:
    try:
        return json.dumps(analyze(version.file.path).to_json())
    except AnalysisError as error:
        raise ServerError(f"model {version.file.name!r} cannot be analysed: {error}") from error


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
            decode_us=_us(timing.decode_seconds),
            queue_us=_us(timing.queue_seconds),
            infer_us=_us(timing.infer_seconds),
            total_us=_us(timing.total_seconds),
            batch_size=timing.batch_size,
        ),
        request_id=request.request_id,
    )


def _trailers(answer: Classification) -> tuple[tuple[str, str], ...]:
    timing = answer.timing
    return (
        ("convlens-decode-us", str(_us(timing.decode_seconds))),
        ("convlens-queue-us", str(_us(timing.queue_seconds))),
        ("convlens-infer-us", str(_us(timing.infer_seconds))),
        ("convlens-total-us", str(_us(timing.total_seconds))),
        ("convlens-batch-size", str(timing.batch_size)),
        ("convlens-weights-origin", answer.model.card.weights_origin),
    )


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def _summary(version: Version) -> pb.ModelSummary:
    summary = pb.ModelSummary(
        name=version.file.name,
        version=version.file.version,
        state=STATES[version.state],
        reason=version.reason,
    )
    if version.served is not None:
        model = version.served.model
        summary.provider = model.provider
        summary.precision = model.card.precision
        summary.pictures = model.takes_pictures
    return summary
