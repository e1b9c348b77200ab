"""`--approximate-decoding`: the server resizes by SIMD where it can, and says where it cannot."""

import json
from pathlib import Path

import onnx
import pytest

from convlens.client import Client
from convlens.server import simd
from tests.support import BUNDLED, running_server


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """LeNet-5 for photographs: resized, and then cropped."""
    model = onnx.load(BUNDLED)
    for entry in model.metadata_props:
        if entry.key == "convlens.preprocessing":
            entry.value = json.dumps(json.loads(entry.value) | {"resize": 48, "crop": [32, 32]})
    onnx.save(model, tmp_path / "lenet5.onnx")
    return tmp_path


def test_pictures_get_the_same_label_with_nearly_the_same_probability(
    models: Path, photographs: dict[str, Path]
) -> None:
    answers = []
    for flags in ((), ("--approximate-decoding",)):
        with running_server("--models", str(models), *flags) as server:
            with Client(server.address) as client:
                found = [client.classify(path).predictions[0] for path in photographs.values()]
            server.process.terminate()
            _, log = server.process.communicate()
        answers.append(found)
        assert ("Pillow resizes" in log) == (bool(flags) and simd.why_not() is not None)
    for exact, approximate in zip(*answers, strict=True):
        assert exact.label == approximate.label
        assert exact.probability == pytest.approx(approximate.probability, abs=0.05)
    if simd.why_not() is None:
        assert answers[0] != answers[1]
