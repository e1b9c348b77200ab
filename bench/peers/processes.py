"""A server's processes: started, suspended while another one is measured, stopped."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil


class Processes:
    """A command and everything that it starts."""

    def __init__(self, words: Sequence[str], folder: Path, settings: dict[str, str], log: Path):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as output:
            self._leader = subprocess.Popen(
                words,
                cwd=folder,
                env=os.environ | settings,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        """Whether the command itself is over."""
        return self._leader.poll() is not None

    def suspend(self) -> None:
        """Take the processors away: whatever it does when idle, it does not do now."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def processor_seconds(self) -> float:
        """What those that live now have used."""
        return sum(_processor_seconds(process) for process in self._family())

    def stop(self) -> None:
        """End them all: first politely, which takes that they run, then not."""
        family = self._family()
        self.resume()
        self._leader.terminate()
        end = time.monotonic() + 10
        while time.monotonic() < end and any(_alive(process) for process in family[1:]):
            self._leader.poll()
            time.sleep(0.1)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._leader.wait()

    def _signal(self, what: signal.Signals) -> None:
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(what)

    def _family(self) -> list[psutil.Process]:
        """The leader and its descendants, parents first; none once it is over."""
        try:
            leader = psutil.Process(self._leader.pid)
            return [leader, *leader.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _processor_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system
