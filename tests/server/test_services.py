"""What else the server answers: models, health, reflection, and the pages of the HTTP port."""

import json
import time
import urllib.error
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from convlens.analysis import analyze
from convlens.client import Client, InvalidArgumentError, NotFoundError
from tests.support import BUNDLED, DIGITS, RunningServer, grey_png

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def test_list_models_tells_state_and_reason_of_every_version(
    two_model_server: RunningServer,
) -> None:
    with Client(two_model_server.address) as client:
        models = {(entry.name, entry.version): entry for entry in client.list_models()}
    states = {key: entry.state for key, entry in models.items()}
    assert states == {
        ("brightness", "1"): "ready",
        ("broken", "1"): "failed",
        ("versions", "2"): "ready",
        ("versions", "10"): "ready",
    }
    assert "broken.onnx" in models["broken", "1"].reason
    assert models["brightness", "1"].pictures
    assert models["brightness", "1"].provider == "cpu"


def test_describe_model_gives_the_card_the_labels_and_the_analysis(
    lenet5_server: RunningServer,
) -> None:
    with Client(lenet5_server.address) as client:
        description = client.describe_model("lenet5")
    assert description.labels == tuple("0123456789")
    assert json.loads(description.metadata["convlens.weights"])["origin"] == "trained"
    served = json.loads(description.analysis_json)
    assert served["totals"]["parameters"] == 61_706
    assert served["layers"] == json.loads(json.dumps(analyze(BUNDLED).to_json()))["layers"]


def test_describe_model_of_an_unknown_one_is_not_found(lenet5_server: RunningServer) -> None:
    with Client(lenet5_server.address) as client, pytest.raises(NotFoundError):
        client.describe_model("nobody")


def test_health_knows_the_server_and_each_model(two_model_server: RunningServer) -> None:
    with grpc.insecure_channel(two_model_server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)

        def check(service: str) -> int:
            request = health_pb2.HealthCheckRequest(service=service)
            return int(stub.Check(request).status)

        assert check("") == SERVING
        assert check("brightness") == SERVING
        assert check("broken") == NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            check("nobody")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_can_be_watched(two_model_server: RunningServer) -> None:
    with grpc.insecure_channel(two_model_server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service, status in (
            ("brightness", SERVING),
            ("broken", NOT_SERVING),
            ("nobody", SERVICE_UNKNOWN),
        ):
            watch = stub.Watch(health_pb2.HealthCheckRequest(service=service))
            assert next(watch).status == status
            watch.cancel()


def test_a_stranger_can_call_classify_from_reflection_alone(lenet5_server: RunningServer) -> None:
    with grpc.insecure_channel(lenet5_server.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "convlens.v1.Classifier" in database.get_services()
        pool = descriptor_pool.DescriptorPool(database)
        method = pool.FindServiceByName("convlens.v1.Classifier").FindMethodByName("Classify")
        request_class = message_factory.GetMessageClass(method.input_type)
        response_class = message_factory.GetMessageClass(method.output_type)
        classify = channel.unary_unary(
            "/convlens.v1.Classifier/Classify",
            request_serializer=request_class.SerializeToString,
            response_deserializer=response_class.FromString,
        )
        response: Any = classify(request_class(image=DIGITS[0].read_bytes()))
    assert response.predictions[0].label == DIGITS[0].name.split("-")[0]


def test_the_pages_of_the_http_port(lenet5_server: RunningServer) -> None:
    assert lenet5_server.page("/livez") == "ok\n"
    assert lenet5_server.page("/readyz") == "ok\n"
    with pytest.raises(urllib.error.HTTPError) as caught:
        lenet5_server.page("/elsewhere")
    assert caught.value.code == 404
    caught.value.close()


def test_metrics_count_pictures_by_stage_and_calls_by_code(
    two_model_server: RunningServer,
) -> None:
    stages = ("decode", "queue", "infer", "encode", "total")

    def counts() -> list[float]:
        return [
            two_model_server.metric(
                f'convlens_stage_seconds_count{{model="brightness",stage="{stage}",version="1"}}'
            )
            for stage in stages
        ]

    def handled(code: str) -> float:
        return two_model_server.metric(
            f'grpc_server_handled_total{{grpc_code="{code}",grpc_method="Classify",'
            'grpc_service="convlens.v1.Classifier",grpc_type="unary_unary"}'
        )

    before, ok, invalid = counts(), handled("OK"), handled("INVALID_ARGUMENT")
    with Client(two_model_server.address) as client:
        for level in (0, 128, 255):
            client.classify(grey_png(level), model="brightness")
        with pytest.raises(InvalidArgumentError):
            client.classify(b"nonsense", model="brightness")
    assert [after - start for after, start in zip(counts(), before, strict=True)] == [3.0] * 5
    assert handled("OK") - ok == 3
    assert handled("INVALID_ARGUMENT") - invalid == 1
    page = two_model_server.page("/metrics")
    assert 'convlens_model_info{model="brightness",precision="fp32",provider="cpu",sha256="' in page
    assert 'convlens_rejected_total{model="brightness",reason="invalid_picture"} 1.0' in page


def test_made_up_method_names_make_no_metrics(lenet5_server: RunningServer) -> None:
    with grpc.insecure_channel(lenet5_server.address) as channel:
        for name in ("/convlens.v1.Classifier/Nothing", "/made.up.Service/Method"):
            call: Any = channel.unary_unary(name)
            with pytest.raises(grpc.RpcError) as caught:
                call(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    page = lenet5_server.page("/metrics")
    assert "Nothing" not in page
    assert "made.up" not in page


def test_an_idle_server_leaves_the_processor_alone(lenet5_server: RunningServer) -> None:
    # It takes a thousandth of a processor; whatever spins or polls takes a whole one.
    before = lenet5_server.metric("process_cpu_seconds_total")
    time.sleep(2.0)
    assert lenet5_server.metric("process_cpu_seconds_total") - before < 0.4
