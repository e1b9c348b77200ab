"""CUDA and TensorRT, where there is an NVIDIA GPU."""

import pytest

from convlens.client import Client
from convlens.server.errors import StartError
from convlens.server.providers import choose_provider
from tests.support import DIGITS, running_server


@pytest.mark.gpu
@pytest.mark.parametrize(
    "flags",
    [
        ("--provider", "cuda"),
        ("--provider", "cuda", "--cuda-graphs"),
        ("--provider", "cuda", "--tf32", "--gpu-memory-bytes", "1000000000"),
        ("--provider", "tensorrt"),
    ],
)
def test_a_gpu_computes_the_golden_outputs_and_names_the_digits(flags: tuple[str, ...]) -> None:
    provider = flags[1]
    try:
        choose_provider(provider)
    except StartError as error:
        pytest.skip(str(error))
    with running_server(*flags) as server, Client(server.address) as client:
        assert {entry.provider for entry in client.list_models()} == {provider}
        for picture in DIGITS:
            assert client.classify(picture).predictions[0].label == picture.name.split("-")[0]
