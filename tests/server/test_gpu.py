"""CUDA and TensorRT, where there is an NVIDIA GPU."""

import numpy as np
import onnxruntime as ort
import pytest

from convlens.client import Client
from convlens.server.errors import StartError
from convlens.server.providers import choose_provider
from convlens.server.providers.nvidia import MAX_RECORDED, GraphedSession
from tests.support import BUNDLED, DIGITS, running_server


@pytest.mark.gpu
@pytest.mark.parametrize(
    "flags",
    [
        ("--provider", "cuda"),
        ("--provider", "cuda", "--cuda-graphs"),
        ("--provider", "cuda", "--tf32", "--gpu-memory-bytes", "1000000000"),
        ("--provider", "tensorrt"),
        ("--provider", "tensorrt", "--cuda-graphs"),
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


def test_bound_buffers_give_each_run_its_own_answers_whatever_its_shape() -> None:
    """On the CPU, where nothing is recorded; binding and copying are the same."""
    session = ort.InferenceSession(BUNDLED, providers=["CPUExecutionProvider"])
    bound = GraphedSession(session, 0, "cpu")
    rng = np.random.default_rng(0)
    answers = []
    for rows in (2, 1, 2, 3, *range(1, MAX_RECORDED + 4)):
        inputs = rng.standard_normal((32, rows, 1, 32), np.float32).transpose(1, 2, 0, 3)
        answers.append(
            (bound.run(None, {"input": inputs})[0], session.run(None, {"input": inputs})[0])
        )
    for found, expected in answers:
        np.testing.assert_array_equal(found, expected)
