"""What the server says of itself and its models in the Open Inference Protocol."""

import itertools
from typing import Any

import grpc
import numpy as np
import pytest

from convlens.client import Client
from convlens.proto import inference_pb2 as pb
from tests.server.tensors import Stub, picture_request, raw_request, refusal
from tests.support import grey_png, running_server, save_brightness_model


def test_health_says_what_is_ready_and_an_unknown_model_is_not(stub: Stub) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    ready = {
        (name, version): stub.ModelReady(pb.ModelReadyRequest(name=name, version=version)).ready
        for name, version in itertools.product(("two", "broken", "nobody"), ("", "1", "2"))
    }
    assert {key for key, value in ready.items() if value} == {("two", ""), ("two", "1")}


def test_metadata_has_names_datatypes_and_shapes(stub: Stub) -> None:
    about = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert about.name == "convlens"
    assert about.extensions == ["classification", "model_configuration", "statistics"]
    model = stub.ModelMetadata(pb.ModelMetadataRequest(name="embedding"))
    assert model.name == "embedding"
    assert model.versions == ["1"]
    tensor = pb.ModelMetadataResponse.TensorMetadata
    assert model.inputs == [tensor(name="ids", datatype="INT64", shape=[-1, -1])]
    assert model.outputs == [tensor(name="rows", datatype="FP32", shape=[-1, -1, 2])]
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelMetadata(pb.ModelMetadataRequest(name="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_configuration_tells_whether_requests_share_runs(stub: Stub) -> None:
    pictures = stub.ModelConfig(pb.ModelConfigRequest(name="brightness")).config
    assert pictures.max_batch_size == 4
    assert pictures.HasField("dynamic_batching")
    assert pictures.input[0].dims == [1, 32, 32]
    assert pictures.input[0].format == pb.ModelInput.FORMAT_NCHW
    assert pictures.parameters["pictures"].string_value == "image"
    total = stub.ModelConfig(pb.ModelConfigRequest(name="total")).config
    assert total.max_batch_size == 0
    assert not total.HasField("dynamic_batching")
    assert total.input[0].dims == [-1, 2]
    assert total.input[0].data_type == pb.TYPE_FP32


def test_the_index_lists_every_version_or_those_that_are_ready(stub: Stub) -> None:
    entries = stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
    states = {entry.name: entry.state for entry in entries}
    assert states.pop("broken") == "UNAVAILABLE"
    assert set(states.values()) == {"READY"}
    assert "broken.onnx" in next(entry.reason for entry in entries if entry.name == "broken")
    ready = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models
    assert {entry.name for entry in ready} == states.keys()


def test_statistics_count_requests_rows_and_runs(tmp_path: Any) -> None:
    save_brightness_model(tmp_path / "brightness.onnx")
    with (
        running_server("--models", str(tmp_path)) as server,
        grpc.insecure_channel(server.address) as channel,
        Client(server.address) as client,
    ):
        stub = Stub(channel)

        def counted() -> pb.ModelStatistics:
            request = pb.ModelStatisticsRequest(name="brightness")
            return stub.ModelStatistics(request).model_stats[0]

        assert (counted().inference_count, counted().last_inference) == (0, 0)
        for _ in range(2):
            stub.ModelInfer(picture_request("brightness", *[grey_png(1)] * 3))
        client.classify(grey_png(1))
        refusal(stub, picture_request("brightness", b"no picture"))
        after = counted()
        everything = stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelStatistics(pb.ModelStatisticsRequest(name="brightness", version="2"))
        page = server.page("/metrics")
    stats = after.inference_stats
    assert (after.inference_count, after.execution_count) == (7, 3)
    assert (stats.success.count, stats.fail.count) == (3, 1)
    parts = (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
    assert [part.count for part in parts] == [3] * 4
    assert 0 < sum(part.ns for part in parts) <= stats.success.ns
    assert {entry.batch_size: entry.compute_infer.count for entry in after.batch_stats} == {
        1: 1,
        3: 2,
    }
    assert after.last_inference > 1_700_000_000_000
    assert list(everything) == [after]
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    labels = 'model="brightness",stage="%s",version="1"'
    for stage in ("decode", "queue", "infer", "encode", "total"):
        assert f"convlens_stage_seconds_count{{{labels % stage}}} 7.0" in page
    assert 'grpc_method="ModelInfer",grpc_service="inference.GRPCInferenceService"' in page


def test_the_trailers_tell_what_an_answer_cost(lenet5: Stub) -> None:
    _, call = lenet5.ModelInfer.with_call(
        raw_request("lenet5", input=("FP32", np.zeros((2, 1, 32, 32), np.float32)))
    )
    trailers = dict(call.trailing_metadata() or ())
    assert trailers["convlens-batch-size"] == "2"
    assert int(trailers["convlens-infer-us"]) > 0
    assert trailers["convlens-weights-origin"] == "trained"
