"""A server of tensors that many tests share."""

from collections.abc import Iterator

import grpc
import pytest

from tests.server.graphs import (
    save_embedding,
    save_liar,
    save_total,
    save_two_inputs,
    save_types,
    save_zeros_fail,
)
from tests.server.tensors import Stub
from tests.support import RunningServer, running_server, save_brightness_model


@pytest.fixture(scope="session")
def tensor_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with models of tensors, and one of pictures whose labels have colons."""
    models = tmp_path_factory.mktemp("tensor-models")
    save_two_inputs(models / "two.onnx")
    save_embedding(models / "embedding.onnx")
    save_types(models / "types.onnx")
    save_total(models / "total.onnx")
    save_liar(models / "liar.onnx")
    save_zeros_fail(models / "zeros_fail.onnx")
    save_brightness_model(models / "brightness.onnx", labels=["day: bright", "night: dark"])
    (models / "broken.onnx").write_bytes(b"\x08\x08not a model")
    with running_server("--models", str(models), "--max-batch-size", "4") as running:
        yield running


@pytest.fixture(scope="session")
def stub(tensor_server: RunningServer) -> Iterator[Stub]:
    with grpc.insecure_channel(tensor_server.address) as channel:
        yield Stub(channel)


@pytest.fixture(scope="session")
def lenet5(lenet5_server: RunningServer) -> Iterator[Stub]:
    with grpc.insecure_channel(lenet5_server.address) as channel:
        yield Stub(channel)
