"""The servicer of the Open Inference Protocol: it translates messages and leaves the work."""

import math
from collections.abc import AsyncIterator, Mapping
from importlib import metadata
from typing import Any, NamedTuple

from convlens.proto import inference_pb2 as pb
from convlens.proto import inference_pb2_grpc as pb_grpc
from convlens.server import inference_messages as messages
from convlens.server.administration import Administration
from convlens.server.contents import read_tensors, write_raw
from convlens.server.errors import (
    InvalidRequestError,
    InvalidTensorError,
    ModelNotFoundError,
)
from convlens.server.failures import public_message
from convlens.server.model import Model
from convlens.server.predictions import classification
from convlens.server.probe_port import Probes
from convlens.server.repository import Repository
from convlens.server.rpc import cost_trailers, deadline_of
from convlens.server.served_model import ServedModel
from convlens.server.signature import Signature
from convlens.server.statistics import Timing
from convlens.server.streaming import answer_stream
from convlens.server.tensor import Array, Tensor
from convlens.server.version import State

EXTENSIONS = ("classification", "model_configuration", "statistics")

Parameters = Mapping[str, pb.InferParameter]


class _Output(NamedTuple):
    """An output that a request asks for.

    Attributes:
        position: in the graph's order.
        name: of the output.
        datatype: of the graph.
        classes: how many to name in place of the values; None for the values.
    """

    position: int
    name: str
    datatype: str
    classes: int | None


class InferenceServicer(pb_grpc.GRPCInferenceServiceServicer):
    """Answers the RPCs of `inference.GRPCInferenceService`.

    Args:
        repository: the models.
        administration: loads and unloads them.
        probes: of the server.
        stream_window: the most requests of one stream that may be in flight.
    """

    def __init__(
        self,
        repository: Repository,
        administration: Administration,
        probes: Probes,
        stream_window: int,
    ) -> None:
        self._repository = repository
        self._administration = administration
        self._probes = probes
        self._stream_window = stream_window

    async def ServerLive(
        self, request: pb.ServerLiveRequest, context: Any
    ) -> pb.ServerLiveResponse:
        """As /livez says it."""
        return pb.ServerLiveResponse(live=self._probes.live)

    async def ServerReady(
        self, request: pb.ServerReadyRequest, context: Any
    ) -> pb.ServerReadyResponse:
        """As /readyz says it."""
        return pb.ServerReadyResponse(ready=self._probes.ready and self._probes.live)

    async def ModelReady(
        self, request: pb.ModelReadyRequest, context: Any
    ) -> pb.ModelReadyResponse:
        """Whether it can be asked, be it after loading; one that does not exist is no error."""
        try:
            version = self._repository.describe(request.name, request.version)
        except ModelNotFoundError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=version.can_be_asked)

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: Any
    ) -> pb.ServerMetadataResponse:
        """Name, version and the protocol's extensions."""
        return pb.ServerMetadataResponse(
            name="convlens", version=metadata.version("convlens"), extensions=EXTENSIONS
        )

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: Any
    ) -> pb.ModelMetadataResponse:
        """The tensors that a model takes and gives."""
        model = (await self._repository.get(request.name, request.version)).model
        ready = [
            entry.file.version
            for entry in self._repository.visible
            if entry.file.name == model.name and entry.state is State.READY
        ]
        return messages.model_metadata(model, ready)

    async def ModelConfig(
        self, request: pb.ModelConfigRequest, context: Any
    ) -> pb.ModelConfigResponse:
        """How a model is run."""
        served = await self._repository.get(request.name, request.version)
        return messages.model_config(served.model, served.max_batch_size, served.max_delay_seconds)

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: Any
    ) -> pb.ModelStatisticsResponse:
        """What was served: by one version, by all of a model, or by all there are."""
        if request.name:
            self._repository.describe(request.name, request.version)
        return pb.ModelStatisticsResponse(
            model_stats=[
                messages.model_statistics(
                    entry.file.name, entry.file.version, entry.served.statistics
                )
                for entry in self._repository.visible
                if entry.served is not None
                and request.name in ("", entry.file.name)
                and request.version in ("", entry.file.version)
            ]
        )

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: Any
    ) -> pb.RepositoryIndexResponse:
        """Every version of every model, or those that are ready."""
        return messages.repository_index(
            entry
            for entry in self._repository.visible
            if entry.state is State.READY or not request.ready
        )

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Any
    ) -> pb.RepositoryModelLoadResponse:
        """Load the versions of a model that are new, have changed, or were unloaded."""
        await self._administration.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Any
    ) -> pb.RepositoryModelUnloadResponse:
        """Unload every version of a model, once what is in flight is answered."""
        await self._administration.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: Any
    ) -> pb.ModelInferResponse:
        """Run a model once; the trailers tell what it cost and where the weights are from."""
        response, timing, model = await self._infer(request, context, wait_for_place=False)
        context.set_trailing_metadata(cost_trailers(timing, model))
        return response

    async def ModelStreamInfer(
        self, request_iterator: AsyncIterator[pb.ModelInferRequest], context: Any
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Run a model on each request, several at a time, and answer in their order."""

        async def answer(request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
            return await self._answer(request, context)

        async for response in answer_stream(
            request_iterator, answer, self._stream_window, in_order=True
        ):
            yield response

    async def _answer(
        self, request: pb.ModelInferRequest, context: Any
    ) -> pb.ModelStreamInferResponse:
        """One answer of a stream: an error is said in it, so that the stream goes on."""
        try:
            response, _, _ = await self._infer(request, context, wait_for_place=True)
        except Exception as error:  # noqa: BLE001 - any failure concerns this request alone
            return pb.ModelStreamInferResponse(
                error_message=public_message(error),
                infer_response=pb.ModelInferResponse(id=request.id),
            )
        response.parameters["triton_final_response"].bool_param = True
        return pb.ModelStreamInferResponse(infer_response=response)

    async def _infer(
        self, request: pb.ModelInferRequest, context: Any, *, wait_for_place: bool
    ) -> tuple[pb.ModelInferResponse, Timing, Model]:
        tensors, deadline = read_tensors(request), _deadline(request, context)

        async def infer(served: ServedModel) -> tuple[pb.ModelInferResponse, Timing, Model]:
            outputs = _requested_outputs(request, served.model.signature)

            def encode(arrays: tuple[Array, ...]) -> pb.ModelInferResponse:
                return _response(request, served.model, outputs, arrays)

            response, timing = await served.infer(
                tensors, encode, deadline, wait_for_place=wait_for_place
            )
            return response, timing, served.model

        return await self._repository.ask(request.model_name, request.model_version, infer)


def _requested_outputs(request: pb.ModelInferRequest, signature: Signature) -> list[_Output]:
    if not request.outputs:
        return [
            _Output(position, spec.name, spec.datatype, None)
            for position, spec in enumerate(signature.outputs)
        ]
    specs = {spec.name: (index, spec.datatype) for index, spec in enumerate(signature.outputs)}
    outputs = []
    for entry in request.outputs:
        if entry.name not in specs:
            raise InvalidTensorError(f"there is no output {entry.name!r}; there are {list(specs)}")
        if "shared_memory_region" in entry.parameters:
            raise InvalidTensorError(
                f"output {entry.name!r} is wanted in shared memory; answers come in messages"
            )
        classes = _integer(entry.parameters, "classification")
        outputs.append(_Output(specs[entry.name][0], entry.name, specs[entry.name][1], classes))
    return outputs


def _deadline(request: pb.ModelInferRequest, context: Any) -> float:
    """The call's own, or the sooner one that Triton's parameter `timeout` sets."""
    timeout_us = _integer(request.parameters, "timeout")
    return deadline_of(context, timeout_us / 1e6 if timeout_us else math.inf)


def _integer(parameters: Parameters, name: str) -> int | None:
    if name not in parameters:
        return None
    if parameters[name].WhichOneof("parameter_choice") != "int64_param":
        raise InvalidRequestError(f"parameter {name!r}: needs an int64_param")
    return parameters[name].int64_param


def _response(
    request: pb.ModelInferRequest, model: Model, outputs: list[_Output], arrays: tuple[Array, ...]
) -> pb.ModelInferResponse:
    response = pb.ModelInferResponse(
        model_name=model.name, model_version=model.version, id=request.id
    )
    for output in outputs:
        tensor = Tensor(output.datatype, arrays[output.position])
        if output.classes is not None:
            labels = model.card.labels or ()
            tensor = classification(output.name, tensor, labels, output.classes)
        response.outputs.add(name=output.name, datatype=tensor.datatype, shape=tensor.values.shape)
        response.raw_output_contents.append(write_raw(tensor))
    return response
