"""A server in a process of its own, for as long as it is measured."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

STOP_SECONDS = 15


@dataclass(frozen=True)
class ServerProcess:
    """A server that is ready.

    Attributes:
        address: host:port.
        metrics_url: of its page for Prometheus.
        process: that it runs in.
    """

    address: str
    metrics_url: str
    process: "subprocess.Popen[str]"

    def processor_seconds(self) -> float:
        """That it has spent so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def resident_bytes(self) -> int:
        """Of its memory, what is in RAM."""
        return psutil.Process(self.process.pid).memory_info().rss


@contextmanager
def serve(*flags: str, under: Sequence[str] = ()) -> Iterator[ServerProcess]:
    """Run `convlens serve` with some flags, on free ports, maybe under another command."""
    words = [*under, sys.executable, "-m", "convlens.cli", "serve"]
    with run([*words, "--port=0", "--metrics-port=0", *flags]) as server:
        yield server


@contextmanager
def run(command: Sequence[str]) -> Iterator[ServerProcess]:
    """Run what says "... on HOST:PORT, ... METRICS_URL" on its first line once it is ready."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        words = process.stdout.readline().split()
        if "on" not in words:
            sys.exit(f"it did not start: {' '.join(command)}")
        address = words[words.index("on") + 1].rstrip(",")
        yield ServerProcess(address, words[-1], process)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
