"""What a picture costs the client: `classify_many` of both clients, and a bare `ClassifyStream`.

Processor time of this process alone, in rounds that alternate; the server is another process, and
runs the bundled LeNet-5 on the bundled digits.

    python bench/client_calls.py --address 127.0.0.1:50051
"""

import argparse
import asyncio
import itertools
import json
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator

import grpc

from convlens.client import DEFAULT_ADDRESS, AsyncClient, Client
from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc as pb_grpc
from convlens.server.settings import BUNDLED_MODELS

ROUNDS, PICTURES = 7, 2000
DIGITS = [path.read_bytes() for path in sorted(BUNDLED_MODELS.parent.glob("digits/*.png"))]


def main() -> None:
    """Measure and print, in microseconds a picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default=DEFAULT_ADDRESS)
    address = parser.parse_args().address
    ways: dict[str, Callable[[], int]] = {
        "Client.classify_many": lambda: blocking(address),
        "AsyncClient.classify_many": lambda: asyncio.run(asynchronous(address)),
        "ClassifyStream": lambda: asyncio.run(stream(address)),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.process_time()
            answers = way()
            spent[name].append(1e6 * (time.process_time() - start) / answers)
    print(json.dumps({name: round(statistics.median(us)) for name, us in spent.items()}, indent=2))


def pictures() -> Iterator[bytes]:
    """The bundled digits, again and again."""
    return itertools.islice(itertools.cycle(DIGITS), PICTURES)


def blocking(address: str) -> int:
    """Calls from threads; returns how many were answered."""
    with Client(address) as client:
        return sum(each.error is None for each in client.classify_many(pictures()))


async def asynchronous(address: str) -> int:
    """Calls from tasks."""
    async with AsyncClient(address) as client:
        return sum([each.error is None async for each in client.classify_many(pictures())])


async def stream(address: str) -> int:
    """One stream, as it comes: no retries, no order, no deadlines of pictures."""

    async def requests() -> AsyncIterator[pb.ClassifyRequest]:
        for index, image in enumerate(pictures()):
            yield pb.ClassifyRequest(image=image, request_id=str(index))

    async with grpc.aio.insecure_channel(address) as channel:
        call = pb_grpc.ClassifierStub(channel).ClassifyStream(requests())
        return sum([not response.HasField("error") async for response in call])


if __name__ == "__main__":
    main()
