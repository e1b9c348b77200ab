"""A long mixed load on a real server: no call may be lost, and memory must not trend upward.

Good pictures, bad ones, cancelled calls, calls with hopeless deadlines, streams, connections that
come and go, and the model being replaced all the while. Memory is that of all the server's
processes; its trend is the slope of a straight line through the second half of the samples.

    make soak SECONDS=600
    python bench/soak.py --seconds 600 --workers 2
"""

import argparse
import asyncio
import collections
import itertools
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from server_process import serve

from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc as pb_grpc
from convlens.proto import inference_pb2, inference_pb2_grpc
from convlens.server.settings import BUNDLED_MODELS

SEED = 7
SAMPLE_SECONDS = 0.5
RELOAD_SECONDS = 1.0
STREAM_PICTURES = 100
CALLERS = 4  # of each kind
# The rise over the second half that noise may make, as a share of the memory.
MAX_RISE = 0.03

PICTURES = sorted((BUNDLED_MODELS.parent / "digits").glob("*.png"))
Count = collections.Counter[str]


def main() -> int:
    """Load the server for so long, print a report; 1 where something was lost or grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(shutil.copy(BUNDLED_MODELS / "lenet5.onnx", folder))
        flags = (f"--models={folder}", f"--workers={arguments.workers}", "--provider=cpu")
        with serve(*flags) as server:
            soak = Soak(server.address, model, server.process.pid)
            asyncio.run(soak.run(arguments.seconds))
            server.process.terminate()
            exit_code = server.process.wait(60)
    report = soak.report() | {"exit_code": exit_code, "workers": arguments.workers}
    print(json.dumps(report, indent=2))
    failed = report["lost"] or report["rise_in_second_half"] > MAX_RISE or exit_code != 0
    print(f"soak: {'FAILED' if failed else 'passed'}")
    return int(bool(failed))


class Soak:
    """The load, what came of it, and the server's memory.

    Args:
        address: of the server.
        model: the file that is replaced.
        pid: of the server's process, or of its supervisor.
    """

    def __init__(self, address: str, model: Path, pid: int) -> None:
        self._address = address
        self._model = model
        self._pid = pid
        self._rng = random.Random(SEED)
        self._counts: dict[str, Count] = {}
        self._lost: list[str] = []
        self._samples: list[tuple[float, int]] = []

    async def run(self, seconds: float) -> None:
        """Keep every kind of caller busy until the time is over."""
        end = time.monotonic() + seconds
        kinds: list[Callable[[Any], Awaitable[str]]] = [
            self._good,
            self._bad,
            self._cancelled,
            self._late,
            self._stream,
        ]
        callers = [self._repeat(kind, end) for kind in kinds for _ in range(CALLERS)]
        await asyncio.gather(*callers, self._reload(end), self._sample(end))

    def report(self) -> dict[str, Any]:
        """What was asked and answered, and where the memory went."""
        half = self._samples[len(self._samples) // 2 :]
        seconds, rss = (np.array(column, float) for column in zip(*half, strict=True))
        slope = float(np.polyfit(seconds, rss, 1)[0])
        return {
            "outcomes": {kind: dict(count) for kind, count in self._counts.items()},
            "lost": self._lost[:10],
            "mb_start": round(self._samples[0][1] / 1e6, 1),
            "mb_half": round(rss[0] / 1e6, 1),
            "mb_end": round(rss[-1] / 1e6, 1),
            "slope_kb_a_second": round(slope / 1e3, 2),
            "rise_in_second_half": round(slope * (seconds[-1] - seconds[0]) / rss.mean(), 4),
        }

    async def _repeat(self, kind: Callable[[Any], Awaitable[str]], end: float) -> None:
        """Call again and again, on a fresh connection now and then."""
        count = self._counts.setdefault(kind.__name__.strip("_"), collections.Counter())
        while time.monotonic() < end:
            options = (("grpc.use_local_subchannel_pool", 1),)
            async with grpc.aio.insecure_channel(self._address, options) as channel:
                stub = pb_grpc.ClassifierStub(channel)
                for _ in range(self._rng.randrange(20, 200)):
                    if time.monotonic() > end:
                        return
                    try:
                        count[await kind(stub)] += 1
                        # Whoever gives up at once could ask faster than any server answers: an
                        # answer in between keeps this a load, where it would be a flood.
                        await self._good(stub)
                    except grpc.aio.AioRpcError as error:
                        self._lost.append(f"{kind.__name__}: {error.code()}: {error.details()}")
                        count["LOST"] += 1

    async def _good(self, stub: Any) -> str:
        picture = self._rng.choice(PICTURES)
        answer = await stub.Classify(pb.ClassifyRequest(image=picture.read_bytes()), timeout=60)
        if answer.predictions[0].label != picture.name[0]:
            self._lost.append(f"{picture.name} was called {answer.predictions[0].label}")
        return "OK"

    async def _bad(self, stub: Any) -> str:
        image = PICTURES[0].read_bytes()[: self._rng.randrange(1, 60)]
        return await self._code(
            stub.Classify(pb.ClassifyRequest(image=image)), grpc.StatusCode.INVALID_ARGUMENT
        )

    async def _cancelled(self, stub: Any) -> str:
        call = stub.Classify(pb.ClassifyRequest(image=PICTURES[0].read_bytes()))
        await asyncio.sleep(self._rng.random() * 0.01)
        call.cancel()
        try:
            await call
        except asyncio.CancelledError:
            return "CANCELLED"
        return "OK"

    async def _late(self, stub: Any) -> str:
        request = pb.ClassifyRequest(image=PICTURES[0].read_bytes())
        call = stub.Classify(request, timeout=self._rng.random() * 0.01)
        return await self._code(call, grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED)

    async def _stream(self, stub: Any) -> str:
        async def requests() -> AsyncIterator[pb.ClassifyRequest]:
            for number, picture in enumerate(itertools.islice(_endless(), STREAM_PICTURES)):
                yield pb.ClassifyRequest(image=picture.read_bytes(), request_id=str(number))

        ids = {answer.request_id async for answer in stub.ClassifyStream(requests(), timeout=120)}
        if len(ids) != STREAM_PICTURES:
            self._lost.append(f"a stream of {STREAM_PICTURES} was answered {len(ids)} times")
        return "OK"

    async def _code(self, call: Any, *expected: grpc.StatusCode) -> str:
        """The code of a call's outcome; raises where it is not one of those that may come."""
        code = await call.code()
        if code not in expected:
            self._lost.append(f"{code.name} where {expected[0].name} was due")
        return str(code.name)

    async def _reload(self, end: float) -> None:
        """Replace the model by its equal, and have it loaded."""
        count = self._counts.setdefault("reload", collections.Counter())
        fresh = self._model.with_suffix(".part")
        async with grpc.aio.insecure_channel(self._address) as channel:
            admin: Any = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            while time.monotonic() < end:
                shutil.copy(self._model, fresh)
                fresh.replace(self._model)
                request = inference_pb2.RepositoryModelLoadRequest(model_name="lenet5")
                await admin.RepositoryModelLoad(request, timeout=60)
                count["OK"] += 1
                await asyncio.sleep(RELOAD_SECONDS)

    async def _sample(self, end: float) -> None:
        while time.monotonic() < end:
            self._samples.append((time.monotonic(), _memory_bytes(self._pid)))
            await asyncio.sleep(SAMPLE_SECONDS)


def _endless() -> Iterator[Path]:
    return itertools.cycle(PICTURES)


def _memory_bytes(pid: int) -> int:
    """Resident memory of a process and of its children, without what they share counted twice.

    Nor is what is mapped from files: programs that use the same libraries share it, and it grows
    where one of them ends.
    """
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    own = int(rollup.partition("\nPss_Anon:")[2].split()[0]) * 1024
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(_memory_bytes(int(child)) for child in children)


if __name__ == "__main__":
    sys.exit(main())
