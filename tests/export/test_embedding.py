import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from torch import nn

from convlens.analysis.card import ModelCard
from convlens.analysis.model_file import read_metadata
from convlens.export import ConversionError, GraphOptions, export_network, find_architecture
from convlens.server.picture import normalise


def _network() -> nn.Module:
    # Nothing but the input's own values, so that no rounding hides what the graph does to them.
    return nn.Flatten()


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "lenet5"])
def test_embedded_preprocessing_equals_the_servers_to_the_last_bit(
    name: str, tmp_path: Path
) -> None:
    how = find_architecture(name).at_image_size(32).preprocessing
    path = tmp_path / "pixels.onnx"
    shape = (how.channels, 32, 32)
    options = GraphOptions(embed_preprocessing=True)
    export_network(_network(), shape, path, ModelCard(preprocessing=how), options)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, how.channels), dtype=np.uint8)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(["logits"], {"input": pixels})
    expected = np.stack([normalise(picture, how) for picture in pixels.transpose(0, 3, 1, 2)])
    np.testing.assert_array_equal(outputs, expected.reshape(3, -1))


def test_the_card_says_that_the_pixels_go_in_as_they_are(tmp_path: Path) -> None:
    how = find_architecture("resnet18").at_image_size(32).preprocessing
    path = tmp_path / "pixels.onnx"
    options = GraphOptions(embed_preprocessing=True)
    export_network(_network(), (3, 32, 32), path, ModelCard(preprocessing=how), options)
    card = ModelCard.from_metadata(read_metadata(path))
    assert card.preprocessing is not None
    assert (card.preprocessing.scale, card.preprocessing.mean) == (1.0, (0.0, 0.0, 0.0))
    assert card.preprocessing.layout == "NHWC"
    assert card.preprocessing.resize == how.resize
    assert card.golden is None
    (picture,) = onnx.load(path).graph.input
    assert picture.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert json.loads(read_metadata(path)["convlens.export"])["embed_preprocessing"] is True


def test_a_model_without_preprocessing_has_none_to_embed(tmp_path: Path) -> None:
    options = GraphOptions(embed_preprocessing=True)
    with pytest.raises(ConversionError, match="has no preprocessing"):
        export_network(_network(), (3, 8, 8), tmp_path / "a.onnx", ModelCard(), options)
    assert list(tmp_path.iterdir()) == []
