"""What every peer does: Pillow and numpy to decode, onnxruntime's CPU provider to run.

It is what their users would write, and the same for all of them, so that only the servers differ.
`PEER_MODEL` names the ONNX file, `PEER_THREADS` the threads of one run.
"""

import io
import json
import os

import numpy as np
import onnxruntime
from PIL import Image

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
MAX_BATCH_SIZE = int(os.environ.get("PEER_MAX_BATCH", "8"))
WORKERS = int(os.environ.get("PEER_WORKERS", "1"))
PORT = int(os.environ.get("PEER_PORT", "8000"))
# Raw float32 tensors come in and logits go out; otherwise JPEGs come in and top-5 goes out.
TENSORS = os.environ.get("PEER_TENSORS") == "1"


class Classifier:
    """One onnxruntime session, and the preprocessing that its file asks for."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("PEER_THREADS", "0"))
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.preprocessing = json.loads(metadata["convlens.preprocessing"])
        self.mean = np.array(self.preprocessing["mean"], np.float32)
        self.deviation = np.array(self.preprocessing["std"], np.float32)
        self.input = self.session.get_inputs()[0]

    def decode(self, body: bytes) -> np.ndarray:
        """The body of one request as the model's input, without the batch axis."""
        if TENSORS:
            return np.frombuffer(body, np.float32).reshape(self.input.shape[1:])
        return self.prepare(Image.open(io.BytesIO(body)))

    def prepare(self, image: Image.Image) -> np.ndarray:
        """A picture as the model's input, resized and cropped as torchvision does it."""
        how = self.preprocessing
        image = image.convert("RGB")
        width, height = image.size
        short = min(width, height)
        size = (how["resize"] * width // short, how["resize"] * height // short)
        image = image.resize(size, FILTERS[how["interpolation"]])
        rows, columns = how["crop"]
        left, top = round((size[0] - columns) / 2), round((size[1] - rows) / 2)
        pixels = np.asarray(image.crop((left, top, left + columns, top + rows)), np.float32)
        values = (pixels * np.float32(how["scale"]) - self.mean) / self.deviation
        return values.transpose(2, 0, 1)

    def run(self, inputs: list[np.ndarray] | np.ndarray) -> np.ndarray:
        """The logits of a batch."""
        batch = np.ascontiguousarray(np.stack(inputs))
        return self.session.run(None, {self.input.name: batch})[0]


def top_5(logits: np.ndarray) -> dict:
    """The five most probable classes of one picture."""
    exponentials = np.exp(logits - logits.max())
    probabilities = exponentials / exponentials.sum()
    best = np.argsort(-probabilities)[:5]
    return {
        "predictions": [
            {"index": int(index), "probability": float(probabilities[index])} for index in best
        ]
    }


def top_5_arrays(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The five most probable classes of a batch, as int64 (n, 5), and their probabilities."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    best = np.argsort(-probabilities, axis=1)[:, :5]
    return best, np.take_along_axis(probabilities, best, axis=1).astype(np.float32)
