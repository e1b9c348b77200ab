"""BentoML: a batchable API for pictures (multipart), a mounted app for raw tensors.

A batchable API takes multipart or JSON only, so the tensors of a tiny network come to a plain
endpoint instead, which BentoML mounts, and are run where they arrive: that is its fastest way.
"""

import os

import bentoml
from PIL.Image import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from vision import MAX_BATCH_SIZE, WORKERS, Classifier, top_5


async def classify_tensor(request: Request) -> Response:
    """The logits of a raw tensor, as float32."""
    classifier = request.app.state.classifier
    logits = classifier.run([classifier.decode(await request.body())])
    return Response(logits[0].tobytes(), media_type="application/octet-stream")


tensors = Starlette(routes=[Route("/classify", classify_tensor, methods=["POST"])])


@bentoml.service(workers=WORKERS, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
@bentoml.asgi_app(tensors, path="/tensors")
class Api:
    """One process of the service."""

    def __init__(self) -> None:
        self.classifier = Classifier()
        tensors.state.classifier = self.classifier

    @bentoml.api(batchable=True, max_batch_size=max(2, MAX_BATCH_SIZE), max_latency_ms=60_000)
    def classify(self, images: list[Image]) -> list[dict]:
        """The five most probable classes of each picture."""
        logits = self.classifier.run([self.classifier.prepare(image) for image in images])
        return [top_5(row) for row in logits]


if __name__ == "__main__":
    port = os.environ["PEER_PORT"]
    words = ["bentoml", "serve", "bentoml_app:Api", "--host", "127.0.0.1", "--port", port]
    os.execvp(words[0], words)
