"""A model that takes the pixels themselves answers as its twin that takes values."""

from pathlib import Path

import pytest

from convlens.client import Client
from convlens.export import GraphOptions, export_model
from tests.support import DIGITS, running_server


def test_a_model_of_pixels_answers_as_its_twin_of_values(tmp_path: Path) -> None:
    for name, embedded in (("values", False), ("pixels", True)):
        options = GraphOptions(embed_preprocessing=embedded)
        export_model("lenet5", tmp_path / f"{name}.onnx", weights="random", options=options)
    with (
        running_server("--models", str(tmp_path)) as server,
        Client(server.address) as client,
    ):
        for picture in DIGITS:
            values = client.classify(picture, model="values", top_k=10).predictions
            pixels = client.classify(picture, model="pixels", top_k=10).predictions
            assert [entry.index for entry in pixels] == [entry.index for entry in values]
            for entry, twin in zip(pixels, values, strict=True):
                assert entry.probability == pytest.approx(twin.probability, abs=1e-5)
