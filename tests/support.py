"""What several tests need: real server processes, small real models, real pictures."""

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

DIGITS = sorted((Path(__file__).parent.parent / "server" / "bundled" / "digits").glob("*.png"))
BUNDLED = Path(__file__).parent.parent / "server" / "bundled" / "models" / "lenet5.onnx"

GREY_32 = {
    "color": "L",
    "resize": [32, 32],
    "interpolation": "bilinear",
    "antialias": True,
    "crop": None,
    "scale": 1 / 255,
    "mean": [0.0],
    "std": [1.0],
    "layout": "NCHW",
}


@dataclass(frozen=True)
class RunningServer:
    """A server process that answers."""

    process: "subprocess.Popen[str]"
    address: str
    metrics_url: str
    lines: tuple[str, ...]

    def page(self, path: str) -> str:
        """The text of one of the HTTP port's pages."""
        url = self.metrics_url.replace("/metrics", path)
        with urllib.request.urlopen(url, timeout=10) as response:
            text: str = response.read().decode()
            return text

    def metric(self, series: str) -> float:
        """The value of one series of /metrics, 0 where it is not there (yet)."""
        for line in self.page("/metrics").splitlines():
            if line.startswith(series + " "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def wait_for_metric(self, series: str, holds: Callable[[float], bool]) -> None:
        """Wait until the value of a series is as it must be; fails after 60 s."""
        deadline = time.monotonic() + 60
        while not holds(value := self.metric(series)):
            assert time.monotonic() < deadline, f"{series} stays {value}"
            time.sleep(0.01)


def serve_command(*flags: str) -> list[str]:
    """The command line of a server on free ports."""
    free = ("--port", "0", "--metrics-port", "0", "--provider", "cpu")
    return [sys.executable, "-m", "convlens.cli", "serve", *free, *flags]


@contextmanager
def running_server(*flags: str) -> Iterator[RunningServer]:
    """Start a server process, wait until it answers, and end it."""
    process = subprocess.Popen(
        serve_command(*flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stderr = _never_full(process.stderr)
    try:
        lines: list[str] = []
        while not lines or not lines[-1].startswith("serving "):
            line = process.stdout.readline()
            assert line, f"the server ended: {process.stderr.read()}"
            lines.append(line.rstrip("\n"))
        words = lines[-1].split()
        address = words[words.index("on") + 1].rstrip(",")
        yield RunningServer(process, address, words[-1], tuple(lines))
    finally:
        process.kill()
        process.communicate()


def _never_full(stream: IO[str]) -> IO[str]:
    """The same lines, from a pipe whose writer never waits for the reader: they are kept here."""
    read_end, write_end = os.pipe()
    lines: SimpleQueue[str] = SimpleQueue()

    def take() -> None:
        with stream:
            for line in stream:
                lines.put(line)
        lines.put("")

    def give() -> None:
        with suppress(BrokenPipeError), os.fdopen(write_end, "w") as pipe:
            while line := lines.get():
                pipe.write(line)
                pipe.flush()

    for work in (take, give):
        threading.Thread(target=work, daemon=True).start()
    return os.fdopen(read_end)


def save_model(
    path: Path,
    nodes: Sequence[Any],
    weights: dict[str, Any],
    *,
    input_shape: Sequence[int | str] = ("batch", 1, 32, 32),
    output_shape: Sequence[int | str] = ("batch", 2),
    metadata: dict[str, Any] | None = None,
) -> Path:
    """Write a small ONNX model with one input `input` and one output `logits`."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, output_shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=f"convlens.{key}", value=json.dumps(value))
    onnx.save(model, path)
    return path


def save_brightness_model(path: Path, *, slope: float = 20.0, **metadata: Any) -> Path:
    """A classifier of 32x32 grey pictures that says "bright" or "dark"; wrongly at slope -20."""
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "axis"], ["column"]),
        helper.make_node("Gemm", ["column", "weight", "bias"], ["logits"]),
    ]
    weights = {
        "axis": np.array([1], np.int64),
        "weight": np.array([[slope, -slope]], np.float32),
        "bias": np.array([-slope / 2, slope / 2], np.float32),
    }
    card = {"preprocessing": GREY_32, "labels": ["bright", "dark"], **metadata}
    return save_model(path, nodes, weights, metadata=card)


def save_slow_model(path: Path, seconds: float = 0.4) -> Path:
    """The same interface, but one thread is busy with an inference for about so long."""
    return save_deep_model(path, max(2, round(seconds / _seconds_of_a_layer())))


@cache
def _seconds_of_a_layer() -> float:
    """What a layer of a deep model takes one thread of this machine."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        model = save_deep_model(Path(folder) / "model.onnx", layers=5)
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    picture = np.zeros((1, 1, 32, 32), np.float32)
    taken = []
    for _ in range(9):
        begun = time.perf_counter()
        session.run(None, {"input": picture})
        taken.append(time.perf_counter() - begun)
    return min(taken) / 5


def save_deep_model(path: Path, layers: int) -> Path:
    """The same interface: convolutions of 1.3 MB of weights each."""
    rng = np.random.RandomState(0)
    weights: dict[str, Any] = {"first": rng.randn(192, 1, 3, 3).astype(np.float32)}
    nodes = [helper.make_node("Conv", ["input", "first"], ["x0"], pads=[1, 1, 1, 1])]
    for index in range(layers):
        weights[f"w{index}"] = (rng.randn(192, 192, 3, 3) / 42).astype(np.float32)
        nodes.append(
            helper.make_node(
                "Conv", [f"x{index}", f"w{index}"], [f"x{index + 1}"], pads=[1, 1, 1, 1]
            )
        )
    weights["last"] = rng.randn(192, 2).astype(np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [f"x{layers}"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "last"], ["logits"]),
    ]
    card = {"preprocessing": GREY_32, "labels": ["a", "b"]}
    return save_model(path, nodes, weights, metadata=card)


def grey_png(level: int, size: tuple[int, int] = (32, 32)) -> bytes:
    """A picture of one grey level."""
    return encode(Image.new("L", size, level), "PNG")


def encode(picture: Image.Image, format: str, **options: Any) -> bytes:  # noqa: A002
    """A picture's bytes in a file format of Pillow's."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()
