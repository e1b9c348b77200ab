"""FastAPI: a raw body in, JSON out; pictures decoded in threads and batched by a queue of its own.

Tensors of a tiny network are run where they arrive: there, passing them on costs more than running.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from vision import MAX_BATCH_SIZE, TENSORS, Classifier, top_5


@asynccontextmanager
async def lifespan(app: FastAPI):
    """Load the model; batch until the server stops."""
    app.state.classifier = Classifier()
    app.state.queue = asyncio.Queue()
    app.state.decoders = ThreadPoolExecutor(2)
    batching = asyncio.create_task(run_batches(app.state.classifier, app.state.queue))
    yield
    batching.cancel()


app = FastAPI(lifespan=lifespan)


async def run_batches(classifier: Classifier, queue: asyncio.Queue) -> None:
    """What arrived during a run forms the next batch."""
    loop = asyncio.get_running_loop()
    while True:
        batch = [await queue.get()]
        while len(batch) < MAX_BATCH_SIZE and not queue.empty():
            batch.append(queue.get_nowait())
        inputs = [decoded for decoded, _ in batch]
        logits = await loop.run_in_executor(None, classifier.run, inputs)
        for (_, answer), row in zip(batch, logits, strict=True):
            answer.set_result(row)


async def classify_picture(request: Request) -> Response:
    """The five most probable classes of a JPEG."""
    state, loop = request.app.state, asyncio.get_running_loop()
    body = await request.body()
    decoded = await loop.run_in_executor(state.decoders, state.classifier.decode, body)
    answer = loop.create_future()
    state.queue.put_nowait((decoded, answer))
    return JSONResponse(top_5(await answer))


async def classify_tensor(request: Request) -> Response:
    """The logits of a raw tensor, as float32."""
    classifier = request.app.state.classifier
    logits = classifier.run([classifier.decode(await request.body())])
    return Response(logits[0].tobytes(), media_type="application/octet-stream")


app.post("/classify")(classify_tensor if TENSORS else classify_picture)
