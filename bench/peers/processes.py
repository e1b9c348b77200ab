"""A server's processes: started, suspended while another one is measured, stopped."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


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
        return sum(_processor_seconds(number) for number in self._numbers())

    def stop(self) -> None:
        """End them all: first politely, which takes that they run, then not."""
        numbers = self._numbers()
        self.resume()
        self._leader.terminate()
        end = time.monotonic() + 10
        while time.monotonic() < end and any(_alive(number) for number in numbers[1:]):
            self._leader.poll()
            time.sleep(0.1)
        for number in numbers:
            if _alive(number):
                _send(number, signal.SIGKILL)
        self._leader.wait()

    def _signal(self, what: signal.Signals) -> None:
        for number in self._numbers():
            _send(number, what)

    def _numbers(self) -> list[int]:
        """The leader's and its descendants' process numbers, parents first."""
        children: dict[int, list[int]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has just ended
                continue
            children.setdefault(parent, []).append(int(folder.name))
        found = [self._leader.pid]
        for number in found:
            found += children.get(number, [])
        return found


def _send(number: int, what: signal.Signals) -> None:
    try:
        os.kill(number, what)
    except ProcessLookupError:
        return


def _alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _processor_seconds(number: int) -> float:
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
