"""LitServe: its own batching, over a raw body; the API passes requests to the model's process."""

from typing import Annotated

import litserve
import numpy as np
from fastapi import Body, Response
from vision import MAX_BATCH_SIZE, PORT, TENSORS, WORKERS, Classifier, top_5


class Api(litserve.LitAPI):
    """Decoded one by one, run as a batch."""

    def setup(self, device: str) -> None:  # noqa: ARG002 (the name is LitServe's)
        """Load the model."""
        self.classifier = Classifier()

    def decode_request(self, request: Annotated[bytes, Body()]) -> np.ndarray:
        """The body as the model's input."""
        return self.classifier.decode(request)

    def batch(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Left to `predict`, which stacks."""
        return inputs

    def predict(self, inputs: list[np.ndarray] | np.ndarray) -> np.ndarray:
        """The logits; a single input comes bare."""
        return self.classifier.run(inputs) if self.max_batch_size > 1 else self.run_one(inputs)

    def run_one(self, value: np.ndarray) -> np.ndarray:
        """The logits of one input."""
        return self.classifier.run([value])[0]

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """One row for each request."""
        return list(output)

    def encode_response(self, output: np.ndarray):
        """Top-5, or the logits as they are."""
        if TENSORS:
            return Response(output.tobytes(), media_type="application/octet-stream")
        return top_5(output)


if __name__ == "__main__":
    api = Api(max_batch_size=MAX_BATCH_SIZE, batch_timeout=0.005, api_path="/classify")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS)
    server.run(port=PORT, host="127.0.0.1", generate_client_file=False, log_level="warning")
