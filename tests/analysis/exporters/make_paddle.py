"""Make the Paddle files: `pip install paddlepaddle==3.3.1 paddle2onnx==2.1.0 packaging`, run this.

Each is exported by paddle2onnx; of the published networks only the structure is kept.
"""

from pathlib import Path

import onnx
import paddle
from paddle.vision import models
from strip import without_weights

HERE = Path(__file__).parent


def exported(network: paddle.nn.Layer, channels: int, size: int, name: str) -> Path:
    network.eval()
    spec = [paddle.static.InputSpec([None, channels, size, size], "float32", "image")]
    paddle.onnx.export(network, str(HERE / name), input_spec=spec, opset_version=13)
    return HERE / f"{name}.onnx"


for name, network, channels, size in (
    ("paddle_lenet", models.LeNet(), 1, 28),
    ("paddle_resnet18", models.resnet18(), 3, 224),
    ("paddle_shufflenet_v2", models.shufflenet_v2_x1_0(), 3, 224),
):
    path = exported(network, channels, size, name)
    onnx.save(without_weights(onnx.load(path)), path)
