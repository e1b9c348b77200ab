"""Tensor requests in batches, queues and streams."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from convlens.proto import inference_pb2 as pb
from convlens.proto import inference_pb2_grpc as pb_grpc
from tests.server.tensors import Array, Stub, one_row, outputs_of, raw_request
from tests.support import RunningServer


def test_more_rows_than_a_batch_has_come_back_together(
    stub: Stub, tensor_server: RunningServer
) -> None:
    ids = np.arange(22).reshape(11, 2) % 4
    rows = outputs_of(stub.ModelInfer(raw_request("embedding", ids=("INT64", ids))))["rows"]
    np.testing.assert_array_equal(rows, np.arange(8, dtype=np.float32).reshape(4, 2)[ids])
    largest = tensor_server.metric(
        'convlens_batch_size_bucket{le="4.0",model="embedding",version="1"}'
    )
    assert largest == tensor_server.metric(
        'convlens_batch_size_count{model="embedding",version="1"}'
    )


def test_callers_with_rows_of_several_shapes_get_their_own_rows(stub: Stub) -> None:
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    random = np.random.RandomState(0)
    requests = [
        random.randint(0, 4, (random.randint(1, 4), random.randint(1, 4))) for _ in range(300)
    ]
    with ThreadPoolExecutor(24) as threads:
        answers = threads.map(
            lambda ids: stub.ModelInfer(raw_request("embedding", ids=("INT64", ids))), requests
        )
        for ids, answer in zip(requests, answers, strict=True):
            np.testing.assert_array_equal(outputs_of(answer)["rows"], table[ids])


def test_a_request_that_the_model_cannot_digest_fails_alone(stub: Stub) -> None:
    def call(ids: Array) -> Any:
        try:
            return stub.ModelInfer(raw_request("embedding", ids=("INT64", ids)))
        except grpc.RpcError as error:
            return error.code()

    requests = [np.array([[9 if index % 25 == 0 else 1]]) for index in range(100)]
    with ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(call, requests))
    failed = [index for index, answer in enumerate(answers) if answer is grpc.StatusCode.INTERNAL]
    assert failed == [0, 25, 50, 75]
    assert all(
        isinstance(answer, pb.ModelInferResponse)
        for index, answer in enumerate(answers)
        if index % 25
    )


def test_a_model_that_breaks_its_promise_of_a_batch_answers_each_request_alone(stub: Stub) -> None:
    def call(value: int) -> float:
        request = raw_request("liar", values=("FP32", one_row(value, 0)))
        return float(outputs_of(stub.ModelInfer(request))["sums"][0, 0])

    with ThreadPoolExecutor(24) as threads:
        assert list(threads.map(call, range(200))) == list(range(200))


def _slow(rows: int = 1) -> pb.ModelInferRequest:
    return raw_request("slow", input=("FP32", np.zeros((rows, 1, 32, 32), np.float32)))


IN_FLIGHT = 'convlens_in_flight{model="slow",version="1"}'
INFERRED = 'convlens_stage_seconds_count{model="slow",stage="infer",version="1"}'


async def test_each_row_takes_a_place_and_a_full_queue_refuses(slow_server: RunningServer) -> None:
    async with grpc.aio.insecure_channel(slow_server.address) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        first = asyncio.ensure_future(stub.ModelInfer(_slow(rows=3)))
        await asyncio.to_thread(slow_server.wait_for_metric, IN_FLIGHT, lambda value: value == 3)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(_slow(rows=2))  # there are 4 places
        assert len(outputs_of(await first)["logits"]) == 3
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() > 0


@pytest.mark.parametrize("means", ["deadline", "parameter", "cancel"])
async def test_what_nobody_waits_for_any_more_costs_no_inference(
    slow_server: RunningServer, means: str
) -> None:
    before = slow_server.metric(INFERRED)
    async with grpc.aio.insecure_channel(slow_server.address) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        first = asyncio.ensure_future(stub.ModelInfer(_slow()))
        await asyncio.to_thread(slow_server.wait_for_metric, IN_FLIGHT, lambda value: value == 1)
        request = _slow()
        if means == "parameter":
            request.parameters["timeout"].int64_param = 10_000
        call = stub.ModelInfer(request, timeout=0.05 if means == "deadline" else None)
        if means == "cancel":
            await asyncio.to_thread(
                slow_server.wait_for_metric, IN_FLIGHT, lambda value: value == 2
            )
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        else:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await first
    slow_server.wait_for_metric(IN_FLIGHT, lambda value: value == 0)
    assert slow_server.metric(INFERRED) - before == 1


async def test_a_stream_answers_in_order_and_goes_on_after_an_error(
    tensor_server: RunningServer,
) -> None:
    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        for index in range(60):
            request = raw_request("embedding", ids=("INT64", np.array([[index % 4]])))
            if index % 7 == 3:
                request = raw_request("nobody")
            request.id = str(index)
            yield request

    async with grpc.aio.insecure_channel(tensor_server.address) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        answers = [answer async for answer in stub.ModelStreamInfer(requests())]
    assert [answer.infer_response.id for answer in answers] == [str(n) for n in range(60)]
    for index, answer in enumerate(answers):
        if index % 7 == 3:
            assert answer.error_message.startswith("no model 'nobody': there are brightness")
            assert not answer.infer_response.outputs
        else:
            assert answer.error_message == ""
            assert answer.infer_response.parameters["triton_final_response"].bool_param
            assert outputs_of(answer.infer_response)["rows"][0, 0, 0] == index % 4 * 2


async def test_a_full_queue_makes_a_stream_wait_and_its_end_leaves_nothing_in_flight(
    slow_server: RunningServer,
) -> None:
    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        for _ in range(8):  # there are 4 places
            yield _slow()

    async with grpc.aio.insecure_channel(slow_server.address) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        answers = [answer async for answer in stub.ModelStreamInfer(requests())]
        assert [answer.error_message for answer in answers] == [""] * 8
        call = stub.ModelStreamInfer(requests())
        await anext(aiter(call))
        call.cancel()
    slow_server.wait_for_metric(IN_FLIGHT, lambda value: value == 0)
