"""Builds the image, brings the compose file up on a real Docker engine, and classifies through it.

    python -m tests.deploy.compose

The engine is the one that `docker info` finds, else one that the program named by the environment
variable CONVLENS_DOCKER_ENGINE starts. That program knows three commands:

    start                          prints `export DOCKER_HOST=...`
    image python|prometheus NAME   makes a stand-in for an image that cannot be pulled
    stop

Without an engine or an image the run is skipped, and says so. Containers, network and volumes are
removed however it ends; the image stays, so that the next build is quick. Grafana is left out: what
it would draw is asked of Prometheus directly.
"""

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml

from convlens.client import Client, ClientError, InvalidArgumentError
from tests.deploy.monitoring import ROOT, ask, wait_for_dashboard, wait_until
from tests.support import DIGITS

PROJECT = f"convlens-test-{os.getpid()}"
IMAGE = "convlens:test-compose"
BUILD_SECONDS = 900.0

# What must hold within the container, besides answering: nobody's rights, no torch, a model, a
# cache beside an image that cannot be written.
INSIDE = """
import importlib.util, os
from convlens.server.settings import BUNDLED_MODELS
assert os.getuid() != 0, "it runs as root"
assert importlib.util.find_spec("torch") is None, "torch is installed"
assert list(BUNDLED_MODELS.glob("*.onnx")), "the bundled model is missing"
assert os.access(os.environ["CONVLENS_CACHE_DIR"], os.W_OK), "the cache cannot be written"
"""


class Skip(Exception):  # noqa: N818 - it is not an error
    """The run cannot take place on this machine."""


@dataclass(frozen=True)
class Engine:
    """A Docker engine, and how to talk to it.

    Attributes:
        environment: of every command: where the engine is, and what the compose file reads.
        stand_ins: the program that makes images which cannot be pulled, where there is one.
    """

    environment: Mapping[str, str]
    stand_ins: str | None

    def run(self, *command: str, seconds: float = 120.0) -> str:
        """Run a command.

        Returns:
            What it printed to stdout.

        Raises:
            AssertionError: it failed; the text holds the end of its output.
        """
        done = self.attempt(*command, seconds=seconds)
        output = (done.stdout + done.stderr).strip().splitlines()
        assert done.returncode == 0, "\n".join((f"{' '.join(command)} failed:", *output[-30:]))
        return done.stdout.strip()

    def attempt(self, *command: str, seconds: float = 120.0) -> "subprocess.CompletedProcess[str]":
        """Run a command that may fail."""
        return subprocess.run(
            command,
            cwd=ROOT,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def compose(self, *arguments: str, seconds: float = 120.0) -> str:
        """Run a command of Docker Compose, version 2 where it is installed."""
        plugin = self.attempt("docker", "compose", "version").returncode == 0
        program = ("docker", "compose") if plugin else ("docker-compose",)
        return self.run(*program, "--project-name", PROJECT, *arguments, seconds=seconds)

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows of a container or an image."""
        (entry,) = json.loads(self.run("docker", "inspect", name))
        assert isinstance(entry, dict)
        return entry


def main() -> int:
    """Take the steps in order; print a line for each."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("test-compose: terminated"))
    try:
        with ExitStack() as cleanup:
            _steps(cleanup)
    except Skip as reason:
        _say("skipped", str(reason))
        return 0
    except (AssertionError, ClientError, OSError, subprocess.TimeoutExpired) as error:
        _say("FAILED", str(error))
        return 1
    print("test-compose: passed")  # noqa: T201 - the verdict
    return 0


def _steps(cleanup: ExitStack) -> None:
    engine = _find_engine(cleanup)
    for kind, name in _base_images().items():
        _provide(engine, kind, name)
    _build(engine)
    server, prometheus = _start(engine, cleanup)
    prometheus_url = f"http://{_published(engine, 'prometheus', 9090)}"
    with Client(_published(engine, "server", 50051)) as client:
        _classify(client)
        _observe(engine, client, prometheus, prometheus_url)
    _stop(engine, server)


def _find_engine(cleanup: ExitStack) -> Engine:
    environment = {
        **os.environ,
        "CONVLENS_IMAGE": IMAGE,
        # The engine picks free ones: compose publishes port 0 as such.
        **dict.fromkeys(("CONVLENS_PORT", "CONVLENS_METRICS_PORT", "PROMETHEUS_PORT"), "0"),
    }
    stand_ins = os.environ.get("CONVLENS_DOCKER_ENGINE")
    engine = Engine(environment, stand_ins)
    if shutil.which("docker") is None or engine.attempt("docker", "info").returncode != 0:
        if not stand_ins:
            raise Skip("there is no Docker engine, and CONVLENS_DOCKER_ENGINE names no program")
        started = engine.run(stand_ins, "start", seconds=300)
        match = re.search(r"export DOCKER_HOST=(\S+)", started)
        assert match, f"{stand_ins} start printed no DOCKER_HOST: {started}"
        engine = Engine({**environment, "DOCKER_HOST": match[1]}, stand_ins)
        cleanup.callback(_stop_engine, engine)
    version = engine.run("docker", "version", "--format", "{{.Server.Version}}")
    _say("engine", f"Docker {version}")
    return engine


def _stop_engine(engine: Engine) -> None:
    if engine.stand_ins and not engine.run("docker", "ps", "--quiet"):
        engine.attempt(engine.stand_ins, "stop")


def _base_images() -> dict[str, str]:
    """The images that the project builds on or runs, by their kind."""
    python = re.search(r"^ARG PYTHON_IMAGE=(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert python, "the Dockerfile names no PYTHON_IMAGE"
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return {"python": python[1], "prometheus": services["prometheus"]["image"]}


def _provide(engine: Engine, kind: str, name: str) -> None:
    if engine.attempt("docker", "image", "inspect", name).returncode == 0:
        _say("image", f"{name} is there")
    elif engine.attempt("docker", "pull", "--quiet", name, seconds=300).returncode == 0:
        _say("image", f"{name} pulled")
    elif engine.stand_ins:
        engine.run(engine.stand_ins, "image", kind, name, seconds=600)
        _say("image", f"{name} cannot be pulled: a stand-in is made")
    else:
        raise Skip(f"{name} cannot be pulled, and CONVLENS_DOCKER_ENGINE names no program")


def _build(engine: Engine) -> None:
    start = time.monotonic()
    engine.compose("build", "server", seconds=BUILD_SECONDS)
    seconds = time.monotonic() - start
    layers = engine.run("docker", "history", "--human=false", "--format={{.Size}}", IMAGE).split()
    # The image's own layers are the last two copies: what it needs, and convlens itself.
    package, requirements = (int(size) / 1e6 for size in layers[:2])
    total = engine.inspect(IMAGE)["Size"] / 1e6
    _say(
        "build",
        f"{total:.0f} MB in {seconds:.1f} s, of which {requirements:.0f} MB are requirements "
        f"and {package:.1f} MB convlens",
    )


def _start(engine: Engine, cleanup: ExitStack) -> tuple[str, str]:
    start = time.monotonic()
    cleanup.callback(engine.compose, "down", "--volumes", "--remove-orphans", "--timeout", "5")
    cleanup.push(partial(_show_logs, engine))
    engine.compose("up", "--detach", "--no-build", "server", "prometheus", seconds=180)
    containers = [engine.compose("ps", "--quiet", name) for name in ("server", "prometheus")]
    for container in containers:
        wait_until(partial(_is_healthy, engine, container), 60, "the container is healthy")
    _say("start", f"server and Prometheus are healthy after {time.monotonic() - start:.1f} s")
    server, prometheus = containers
    engine.run("docker", "exec", server, "python", "-c", INSIDE)
    _say("inside", "not root, no torch, the bundled model is there, the cache can be written")
    return server, prometheus


def _show_logs(engine: Engine, kind: type[BaseException] | None, *_: object) -> None:
    """What the containers said, where a step failed."""
    if kind is not None:
        _say("logs", engine.compose("logs", "--no-color", "--tail", "20"))


def _is_healthy(engine: Engine, container: str) -> bool:
    return bool(engine.inspect(container)["State"]["Health"]["Status"] == "healthy")


def _published(engine: Engine, service: str, port: int) -> str:
    return engine.compose("port", service, str(port))


def _classify(client: Client) -> None:
    seconds = []
    for picture in DIGITS:
        start = time.monotonic()
        answer = client.classify(picture, top_k=1)
        seconds.append(time.monotonic() - start)
        label, true_label = answer.predictions[0].label, picture.name.split("-")[0]
        assert label == true_label, f"{picture.name} is said to be {label}"
    assert seconds, "there are no bundled pictures"
    _say(
        "classify", f"{len(DIGITS)} digits right, median {statistics.median(seconds) * 1e3:.1f} ms"
    )
    try:
        client.classify(b"not a picture")
    except InvalidArgumentError as error:
        _say("refuse", f"{error.code}: {error}")
    else:
        raise AssertionError("what is no picture was classified")


def _observe(engine: Engine, client: Client, prometheus: str, prometheus_url: str) -> None:
    check = ("promtool", "check", "config", "/etc/prometheus/prometheus.yml")
    engine.run("docker", "exec", prometheus, *check)
    _say("config", "promtool finds no fault in Prometheus's configuration")
    counts = {"OK": len(DIGITS), "INVALID_ARGUMENT": 1}
    for code, count in counts.items():
        query = (
            f'grpc_server_handled_total{{grpc_method="Classify", grpc_code="{code}"}} == {count}'
        )
        wait_until(partial(ask, prometheus_url, query), 30, query)
    _say("scrape", f"Prometheus counts the calls: {counts}")
    count = wait_for_dashboard(prometheus_url, client, seconds=90)
    _say("dashboard", f"all of its {count} queries are answered")


def _stop(engine: Engine, server: str) -> None:
    start = time.monotonic()
    engine.compose("stop", "server")
    seconds = time.monotonic() - start
    state = engine.inspect(server)["State"]
    assert state["ExitCode"] == 0, f"the server stopped with exit code {state['ExitCode']}"
    assert seconds < 10, f"with nothing in flight it took {seconds:.1f} s to stop"
    log = engine.attempt("docker", "logs", server)
    assert "stopping: " in log.stdout + log.stderr, "the log does not say that it stops"
    _say("stop", f"SIGTERM, exit code 0 after {seconds:.1f} s")


def _say(step: str, text: str) -> None:
    print(f"{step:10} {text}", flush=True)  # noqa: T201 - a line a step


if __name__ == "__main__":
    sys.exit(main())
