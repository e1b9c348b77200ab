"""An existing client of the Open Inference Protocol, unchanged: NVIDIA's `tritonclient`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from convlens.proto import inference_pb2
from tests.support import BUNDLED, DIGITS, running_server

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = ROOT / ".venv-triton"
REQUIREMENT = "tritonclient[grpc]==2.73.0"


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of an environment with the client, which is made once."""
    python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / REQUIREMENT
    if not stamp.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", REQUIREMENT]
        installed = subprocess.run(install, capture_output=True, text=True, check=False)
        if installed.returncode != 0:
            pytest.skip(f"pip cannot install {REQUIREMENT}: {installed.stderr.strip()[-300:]}")
        stamp.touch()
    return python


@pytest.fixture(scope="module")
def said(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the client got out of a server, call by call."""
    descriptors = tmp_path_factory.mktemp("descriptors") / "inference.pb"
    descriptors.write_bytes(inference_pb2.DESCRIPTOR.serialized_pb)
    script = str(Path(__file__).with_name("tritonclient_calls.py"))
    pictures = [str(path) for path in DIGITS]
    with running_server() as server:
        ended = subprocess.run(
            [str(python), script, server.address, str(descriptors), *pictures],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    results: dict[str, Any] = json.loads(ended.stdout)
    return results


def test_our_protocol_has_its_names_and_numbers(said: dict[str, Any]) -> None:
    assert said["differences"] == []


def test_it_sees_the_health_of_server_and_models(said: dict[str, Any]) -> None:
    assert said["health"] == [True, True, True, False]


def test_it_infers_what_onnxruntime_computes(said: dict[str, Any]) -> None:
    values = np.arange(2048, dtype=np.float32).reshape(2, 1, 32, 32) / 1024
    session = onnxruntime.InferenceSession(BUNDLED, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input": values})
    assert said["infer"]["id"] == "seven"
    np.testing.assert_allclose(said["infer"]["logits"], expected, atol=1e-4)


def test_it_classifies_encoded_pictures(said: dict[str, Any]) -> None:
    assert [len(row) for row in said["pictures"]] == [2] * 20
    for path, (first, _) in zip(DIGITS, said["pictures"], strict=True):
        value, index, label = first.split(":")
        assert len(value.split(".")[1]) == 6
        assert index == label == path.name.split("-")[0]


def test_its_calls_at_once_are_each_answered(said: dict[str, Any]) -> None:
    assert said["async_infer"] == [[str(n), [1 + n % 3, 10], "None"] for n in range(8)]


def test_its_stream_is_answered_in_order_and_survives_an_error(said: dict[str, Any]) -> None:
    assert said["stream"] == ["0", "1", "2", "no model 'nobody': there are lenet5", "4", "5"]


def test_its_exceptions_carry_status_and_reason(said: dict[str, Any]) -> None:
    errors = said["errors"]
    assert {name: status for name, (status, _) in errors.items()} == {
        "unknown model": "StatusCode.NOT_FOUND",
        "wrong datatype": "StatusCode.INVALID_ARGUMENT",
        "load of an unknown model": "StatusCode.NOT_FOUND",
        "unload of an unknown model": "StatusCode.NOT_FOUND",
        "trace": "StatusCode.UNIMPLEMENTED",
        "shared memory": "StatusCode.UNIMPLEMENTED",
    }
    assert errors["wrong datatype"][1] == (
        "input 'input' is FP16 [1, 1, 32, 32]; the model takes FP32 [-1, 1, 32, 32]"
    )


def test_it_unloads_and_loads_a_model(said: dict[str, Any]) -> None:
    assert said["reload"] == {"unloaded": False, "index": {}, "loaded": True}


def test_it_reads_metadata_configuration_statistics_and_index(said: dict[str, Any]) -> None:
    assert said["server_metadata"]["name"] == "convlens"
    assert said["model_metadata"]["inputs"] == [
        {"name": "input", "datatype": "FP32", "shape": ["-1", "1", "32", "32"]}
    ]
    assert said["model_config"]["config"]["max_batch_size"] == 16
    (statistics,) = said["statistics"]["model_stats"]
    assert int(statistics["inference_stats"]["success"]["count"]) >= 15
    assert int(statistics["inference_count"]) >= 42
    assert said["repository_index"] == {
        "models": [{"name": "lenet5", "version": "1", "state": "READY"}]
    }
