"""`ClassifyStream`: many pictures over one stream, each answered on its own."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc as pb_grpc
from tests.support import DIGITS, RunningServer, grey_png


async def _requests(images: dict[str, bytes]) -> AsyncIterator[pb.ClassifyRequest]:
    for request_id, image in images.items():
        yield pb.ClassifyRequest(image=image, request_id=request_id, top_k=1)


async def test_a_stream_answers_every_picture_under_its_request_id(
    lenet5_server: RunningServer,
) -> None:
    images = {f"{picture.name}/{n}": picture.read_bytes() for n in range(10) for picture in DIGITS}
    async with grpc.aio.insecure_channel(lenet5_server.address) as channel:
        stub = pb_grpc.ClassifierStub(channel)
        answers = {
            response.request_id: response
            async for response in stub.ClassifyStream(_requests(images))
        }
    assert answers.keys() == images.keys()
    for request_id, response in answers.items():
        assert response.predictions[0].label == request_id.split("-")[0]
        assert not response.HasField("error")


async def test_a_bad_picture_is_answered_with_an_error_and_the_stream_goes_on(
    lenet5_server: RunningServer,
) -> None:
    images = {
        "good": DIGITS[0].read_bytes(),
        "bad": b"not a picture",
        "also good": DIGITS[1].read_bytes(),
    }
    async with grpc.aio.insecure_channel(lenet5_server.address) as channel:
        stub = pb_grpc.ClassifierStub(channel)
        answers = {
            response.request_id: response
            async for response in stub.ClassifyStream(_requests(images))
        }
    assert answers["bad"].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "not a picture" in answers["bad"].error.message
    assert not answers["bad"].predictions
    assert answers["good"].predictions
    assert answers["also good"].predictions


async def test_a_malformed_message_ends_the_stream_once_those_before_it_are_answered(
    slow_server: RunningServer,
) -> None:
    picture = pb.ClassifyRequest(image=grey_png(1)).SerializeToString()
    async with grpc.aio.insecure_channel(slow_server.address) as channel:
        classify = channel.stream_stream(
            "/convlens.v1.Classifier/ClassifyStream",
            request_serializer=bytes,
            response_deserializer=pb.ClassifyResponse.FromString,
        )
        call = classify(iter((picture, picture, b"\xff", picture)))
        answers: list[Any] = [await call.read(), await call.read()]
        with pytest.raises(grpc.RpcError, match="the message is malformed") as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [len(answer.predictions) for answer in answers] == [2, 2]


async def test_a_full_queue_makes_a_stream_wait_where_a_call_would_be_refused(
    slow_server: RunningServer,
) -> None:
    images = {str(level): grey_png(level) for level in range(10)}  # the queue has 4 places
    async with grpc.aio.insecure_channel(slow_server.address) as channel:
        stub = pb_grpc.ClassifierStub(channel)
        answers = [response async for response in stub.ClassifyStream(_requests(images))]
    assert sorted(response.request_id for response in answers) == sorted(images)
    assert all(response.predictions for response in answers)


async def test_a_stream_whose_caller_goes_away_leaves_nothing_in_flight(
    slow_server: RunningServer,
) -> None:
    images = {str(level): grey_png(level) for level in range(10)}
    async with grpc.aio.insecure_channel(slow_server.address) as channel:
        call = pb_grpc.ClassifierStub(channel).ClassifyStream(_requests(images))
        await call.read()
        call.cancel()
    in_flight = 'convlens_in_flight{model="slow",version="1"}'
    slow_server.wait_for_metric(in_flight, lambda value: value == 0)
