"""Loading and unloading on request, by callers who do not wait for the end."""

import hashlib
import json
import os
from pathlib import Path

import grpc
import pytest

from convlens.client import Client
from convlens.proto import inference_pb2 as pb
from tests.server.tensors import Stub
from tests.support import grey_png, running_server, save_brightness_model, save_slow_model


def test_what_a_caller_gave_up_on_is_loaded_and_unloaded_all_the_same(tmp_path: Path) -> None:
    path, heavy = tmp_path / "light.onnx", tmp_path / "heavy.part"
    save_brightness_model(path)
    save_slow_model(heavy)
    load = pb.RepositoryModelLoadRequest(model_name="light")
    unload = pb.RepositoryModelUnloadRequest(model_name="light")
    with (
        running_server("--models", str(tmp_path), "--max-batch-size", "1") as server,
        grpc.insecure_channel(server.address) as channel,
        Client(server.address, retries=0) as client,
    ):
        stub = Stub(channel)
        os.replace(heavy, path)  # noqa: PTH105 - the point is the system call
        with pytest.raises(grpc.RpcError, match="DEADLINE_EXCEEDED"):
            stub.RepositoryModelLoad(load, timeout=0.02)
        stub.RepositoryModelLoad(load, timeout=60)
        assert client.describe_model("light").labels == ("a", "b")

        request = pb.ModelInferRequest(model_name="light")
        request.inputs.add(name="image", datatype="BYTES", shape=[4])
        request.inputs[0].contents.bytes_contents.extend([grey_png(255)] * 4)
        inferred = stub.ModelInfer.future(request, timeout=60)
        server.wait_for_metric('convlens_in_flight{model="light",version="1"}', lambda n: n == 4)
        with pytest.raises(grpc.RpcError, match="DEADLINE_EXCEEDED"):
            stub.RepositoryModelUnload(unload, timeout=0.02)
        assert inferred.result().outputs[0].shape == [4, 2]
        stub.RepositoryModelLoad(load, timeout=60)
        assert client.classify(grey_png(255)).predictions[0].label in ("a", "b")


def test_the_analysis_is_that_of_the_file_which_answers(tmp_path: Path) -> None:
    path, other = tmp_path / "light.onnx", tmp_path / "other.part"
    save_brightness_model(path)
    save_brightness_model(other, slope=-20.0, labels=["dark", "bright"])
    load = pb.RepositoryModelLoadRequest(model_name="light")
    with (
        running_server("--models", str(tmp_path)) as server,
        grpc.insecure_channel(server.address) as channel,
        Client(server.address) as client,
    ):
        os.replace(other, path)  # noqa: PTH105 - the point is the system call
        before = client.describe_model("light")
        Stub(channel).RepositoryModelLoad(load)
        after = client.describe_model("light")
    assert (before.labels, before.analysis_json) == (("bright", "dark"), "")
    assert after.labels == ("dark", "bright")
    assert json.loads(after.analysis_json)["model"]["sha256"] == _sha256(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
