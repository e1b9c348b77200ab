"""Ray Serve: `serve.batch` in each replica, behind Ray's HTTP proxy."""

import asyncio
import logging
import os
import threading

import numpy as np
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from vision import MAX_BATCH_SIZE, PORT, TENSORS, WORKERS, Classifier, top_5


@serve.deployment(
    num_replicas=WORKERS,
    max_ongoing_requests=64,
    ray_actor_options={
        "num_cpus": 0,
        "runtime_env": {
            "env_vars": {
                name: value
                for name, value in os.environ.items()
                if name.startswith(("PEER_", "PYTHONPATH"))
            }
        },
    },
    logging_config={"enable_access_log": False},
)
class Api:
    """One replica."""

    def __init__(self) -> None:
        self.classifier = Classifier()

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=0.005)
    async def run(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """The logits of a batch."""
        return list(await asyncio.to_thread(self.classifier.run, inputs))

    async def __call__(self, request: Request) -> Response:
        """Top-5 of a JPEG, or the logits of a raw tensor."""
        body = await request.body()
        if TENSORS:
            logits = self.classifier.run([self.classifier.decode(body)])
            return Response(logits[0].tobytes(), media_type="application/octet-stream")
        decoded = await asyncio.to_thread(self.classifier.decode, body)
        return JSONResponse(top_5(await self.run(decoded)))


if __name__ == "__main__":
    ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Api.bind(), route_prefix="/classify")
    threading.Event().wait()
