"""The CUDA provider, where there is an NVIDIA GPU."""

import pytest

from convlens.client import Client
from convlens.server.errors import StartError
from convlens.server.providers import choose_provider
from tests.support import DIGITS, running_server


@pytest.mark.gpu
def test_cuda_computes_the_golden_outputs_and_names_the_digits() -> None:
    try:
        choose_provider("cuda")
    except StartError as error:
        pytest.skip(str(error))
    with running_server("--provider", "cuda") as server, Client(server.address) as client:
        assert {entry.provider for entry in client.list_models()} == {"cuda"}
        for picture in DIGITS:
            assert client.classify(picture).predictions[0].label == picture.name.split("-")[0]
