"""Who is measured, with which setting, and how each is started and asked.

The settings are the best of those that `run.py --explore` tries on two processors.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import question
from material import RESULTS, TENSOR_MODELS, jpeg, tensor
from processes import Processes
from question import Question

from convlens.server.tuned_file import Tuned, tuned_path

FOLDER = RESULTS / "peers"
SERVERS = Path(__file__).parent / "servers"
PROCESSORS = len(os.sched_getaffinity(0))
OURS = {
    "convlens-cpu": ("--provider", "cpu", "--runtime-precision", "fp32", "--tuned", "off"),
    "convlens-tuned": (),
}
# For a tiny network, where Python is the cost, the peers have a process for each processor.
OURS_FOR_TENSORS = OURS | {"convlens-workers": ("--workers", str(PROCESSORS))}


@dataclass(frozen=True)
class Setting:
    """How a peer spreads its work.

    Attributes:
        workers: processes (or instances) with a session each.
        threads: of one run.
        max_batch: pictures in a run.
    """

    workers: int
    threads: int
    max_batch: int


ONE_WIDE = Setting(1, PROCESSORS, 8)
SPREAD = Setting(PROCESSORS, 1, 8)
ONE_ALONE = Setting(1, 1, 1)
SPREAD_ALONE = Setting(PROCESSORS, 1, 1)
ONE_BATCHED = Setting(1, 1, 32)


@dataclass(frozen=True)
class Peer:
    """A server that a user would pick instead.

    Attributes:
        name: of its requirements file and its environment.
        command: what is started, in `servers/`; {port} and {workers} are filled in.
        pictures: settings for photographs, the one to measure first.
        tensors: settings for the tensors of a tiny network, likewise.
    """

    name: str
    command: str
    pictures: tuple[Setting, ...]
    tensors: tuple[Setting, ...]


PEERS = (
    Peer(
        "fastapi",
        "uvicorn fastapi_app:app --port {port} --workers {workers} --log-level warning "
        "--no-access-log",
        pictures=(SPREAD, ONE_WIDE),
        tensors=(SPREAD_ALONE, ONE_ALONE),
    ),
    Peer(
        "litserve",
        "python litserve_app.py",
        pictures=(SPREAD, ONE_WIDE),
        tensors=(ONE_ALONE, ONE_BATCHED, SPREAD_ALONE),
    ),
    Peer(
        "mlserver",
        "python mlserver_model.py",
        pictures=(SPREAD, ONE_WIDE),
        tensors=(ONE_ALONE, ONE_BATCHED, SPREAD_ALONE),
    ),
    Peer(
        "bentoml",
        "python bentoml_app.py",
        pictures=(SPREAD, ONE_WIDE),
        tensors=(SPREAD_ALONE, ONE_ALONE),
    ),
    Peer(
        "pytriton",
        "python pytriton_app.py",
        pictures=(SPREAD, ONE_WIDE),
        tensors=(ONE_BATCHED, ONE_ALONE, SPREAD_ALONE),
    ),
    Peer(
        "ray",
        "python ray_app.py",
        pictures=(SPREAD, ONE_WIDE),
        tensors=(ONE_ALONE, SPREAD_ALONE),
    ),
)


def peer_question(peer: Peer, model: str) -> Question:
    """The request that the peer takes fastest."""
    over_grpc = peer.name in ("mlserver", "pytriton")
    if model in TENSOR_MODELS:
        values = tensor()
        if over_grpc:
            return question.infer_tensor(values, "peer")
        path = "/tensors/classify" if peer.name == "bentoml" else "/classify"
        return question.raw(values.tobytes(), path)
    if over_grpc:
        return question.infer_picture(jpeg(), "peer", (1, 1))
    return question.multipart(jpeg()) if peer.name == "bentoml" else question.raw(jpeg())


def our_question(model: str) -> Question:
    """A picture for `Classify`, or a tensor for `ModelInfer`."""
    if model in TENSOR_MODELS:
        return question.infer_tensor(tensor(), model)
    return question.classify(jpeg(), model)


def our_servers(model: str) -> dict[str, tuple[str, ...]]:
    """Names of our servers, and their flags."""
    return dict(OURS_FOR_TENSORS if model in TENSOR_MODELS else OURS)


def our_setting(flags: tuple[str, ...], path: Path) -> str:
    """What a server of ours runs, in words."""
    words = shlex.join(flags)
    if "--tuned" in flags or not tuned_path(path).exists():
        return words
    tuned = Tuned.read(tuned_path(path))
    twin = tuned.twins.get("throughput")
    file = f"{Path(twin.path).name} on " if twin else ""
    return f"{words} {file}{tuned.plans['throughput']}".strip()


def start_peer(peer: Peer, setting: Setting, path: Path, port: int) -> Processes:
    """Start a peer in its own environment."""
    programs = environment(peer) / "bin"
    words = shlex.split(peer.command.format(port=port, workers=setting.workers))
    settings = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(SERVERS),
        "PEER_MODEL": str(path),
        "PEER_PORT": str(port),
        "PEER_FOLDER": str(FOLDER / "work" / f"{peer.name}-{port}"),
        "PEER_WORKERS": str(setting.workers),
        "PEER_THREADS": str(setting.threads),
        "PEER_MAX_BATCH": str(setting.max_batch),
        "PEER_TENSORS": str(int(path.stem in TENSOR_MODELS)),
        # Libraries beside onnxruntime are to start no threads of their own.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # Triton embeds the interpreter: it must be the one whose standard library it will import.
        "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR"),
        "BENTOML_DO_NOT_TRACK": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
        # By default Ray's workers give way to every other process.
        "RAY_worker_niceness": "0",
        # What Ray's guide to throughput recommends.
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
        "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    }
    words[0] = str(programs / words[0])
    return Processes(words, SERVERS, settings, FOLDER / "logs" / f"{peer.name}-{path.stem}.log")


def start_ours(name: str, flags: tuple[str, ...], path: Path, port: int) -> Processes:
    """Start our server."""
    words = [sys.executable, "-m", "convlens.cli", "serve", "--models", str(path.parent)]
    words += ["--port", str(port), "--metrics-port", "0", *flags]
    return Processes(words, SERVERS, {}, FOLDER / "logs" / f"{name}-{path.stem}.log")


def environment(peer: Peer) -> Path:
    """The folder of a peer's virtual environment."""
    return FOLDER / "venvs" / peer.name


def install(peer: Peer) -> str | None:
    """Make the peer's environment where it is missing or its requirements have changed.

    Returns:
        Why it cannot be had here, or None.
    """
    requirements = SERVERS / "requirements" / f"{peer.name}.txt"
    stamp = environment(peer) / "installed.txt"
    if stamp.exists() and stamp.read_text() == requirements.read_text():
        return None
    print(f"{peer.name}: installing into {environment(peer)}", file=sys.stderr)
    pip = [str(environment(peer) / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    for words in (
        [sys.executable, "-m", "venv", str(environment(peer))],
        [*pip, "-r", str(requirements)],
    ):
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode != 0:
            return (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    stamp.write_text(requirements.read_text())
    return None
