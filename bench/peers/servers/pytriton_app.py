"""PyTriton: Triton's dynamic batcher in front of as many Python workers, asked over gRPC."""

import os

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from vision import MAX_BATCH_SIZE, PORT, TENSORS, WORKERS, Classifier, top_5_arrays


class Worker:
    """One onnxruntime session."""

    def __init__(self) -> None:
        self.classifier = Classifier()

    @batch
    def tensors(self, input: np.ndarray) -> dict[str, np.ndarray]:  # noqa: A002 (the model's name)
        """The logits of a batch of tensors."""
        return {"logits": self.classifier.run(input)}

    @batch
    def pictures(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Top-5 of a batch of JPEGs."""
        logits = self.classifier.run([self.classifier.decode(body) for body in image[:, 0]])
        indices, probabilities = top_5_arrays(logits)
        return {"indices": indices, "probabilities": probabilities}


def main() -> None:
    """Serve until stopped."""
    workers = [Worker() for _ in range(WORKERS)]
    if TENSORS:
        shape = tuple(workers[0].classifier.input.shape[1:])
        functions = [worker.tensors for worker in workers]
        inputs = [Tensor(name="input", dtype=np.float32, shape=shape)]
        outputs = [Tensor(name="logits", dtype=np.float32, shape=(-1,))]
    else:
        functions = [worker.pictures for worker in workers]
        inputs = [Tensor(name="image", dtype=np.bytes_, shape=(1,))]
        outputs = [
            Tensor(name="indices", dtype=np.int64, shape=(5,)),
            Tensor(name="probabilities", dtype=np.float32, shape=(5,)),
        ]
    ports = TritonConfig(
        grpc_address="127.0.0.1",
        grpc_port=PORT,
        http_address="127.0.0.1",
        http_port=PORT + 1,
        metrics_port=PORT + 2,
        log_verbose=0,
        exit_on_error=True,
    )
    with Triton(config=ports, workspace=os.environ["PEER_FOLDER"]) as triton:
        triton.bind(
            model_name="peer",
            infer_func=functions if WORKERS > 1 else functions[0],
            inputs=inputs,
            outputs=outputs,
            config=ModelConfig(
                max_batch_size=MAX_BATCH_SIZE,
                batcher=DynamicBatcher(max_queue_delay_microseconds=1000),
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main()
