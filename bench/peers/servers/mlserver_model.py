"""MLServer: a custom runtime with adaptive batching, asked over gRPC with raw contents.

`python mlserver_model.py` writes the settings into the folder `PEER_FOLDER` and starts MLServer.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from vision import MAX_BATCH_SIZE, PORT, TENSORS, WORKERS, Classifier, top_5_arrays


class Model(MLModel):
    """Tensors or encoded pictures in, logits or top-5 out."""

    async def load(self) -> bool:
        """Load the model."""
        self.classifier = Classifier()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a batch, which MLServer joined and will split along the first axis."""
        entry = payload.inputs[0]
        data = entry.data.root
        if TENSORS:
            batch = np.asarray(data, np.float32).reshape(entry.shape)
            outputs = [_output("logits", "FP32", self.classifier.run(batch))]
        else:
            bodies = data if isinstance(data, list) else [data]
            indices, probabilities = top_5_arrays(
                self.classifier.run([self.classifier.decode(body) for body in bodies])
            )
            outputs = [
                _output("indices", "INT64", indices),
                _output("probabilities", "FP32", probabilities),
            ]
        return InferenceResponse(model_name=self.name, outputs=outputs)


def _output(name: str, datatype: str, values: np.ndarray) -> ResponseOutput:
    return ResponseOutput(
        name=name, datatype=datatype, shape=list(values.shape), data=values.ravel().tolist()
    )


def main() -> None:
    """Write both settings files, become `mlserver start`."""
    folder = Path(os.environ["PEER_FOLDER"])
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "host": "127.0.0.1",
        "http_port": PORT + 1,
        "grpc_port": PORT,
        "metrics_port": PORT + 2,
        "metrics_dir": str(folder),
        # 0: the model runs in the server's process; more: in so many processes of its own.
        "parallel_workers": WORKERS if WORKERS > 1 else 0,
        "debug": False,
    }
    model = {
        "name": "peer",
        "implementation": "mlserver_model.Model",
        "max_batch_size": MAX_BATCH_SIZE,
        "max_batch_time": 0.005,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    program = Path(sys.executable).with_name("mlserver")
    os.execv(program, [str(program), "start", str(folder)])


if __name__ == "__main__":
    main()
