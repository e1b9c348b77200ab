"""An export that cannot finish, in a process of its own: one line says why, no half file stays."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

_LARGEST_FILE_BYTES = 100_000  # LeNet-5 takes 250,000
_INTERRUPTED = """
import os, signal
import torch
from torch import nn

class Interrupted(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 10)

    def forward(self, pictures):
        if not torch.compiler.is_exporting():
            os.kill(os.getpid(), signal.SIGINT)
        return self.head(pictures.mean(dim=(2, 3)))
"""


def _forbid_larger_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE_BYTES, _LARGEST_FILE_BYTES))


def _allow_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore them


def _export(folder: Path, *words: str, limited: bool) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "convlens.cli", "export", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=_forbid_larger_files if limited else _allow_interrupts,
    )


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_file_that_cannot_be_written_to_its_end_leaves_the_old_one(
    precision: str, tmp_path: Path
) -> None:
    """A limit on the size of files stands for the full disk, which takes root to make."""
    old = tmp_path / "lenet5.onnx"
    old.write_bytes(b"the old file")
    words = ["lenet5", "--weights", "random", "--precision", precision]
    done = _export(tmp_path, *words, limited=True)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("convlens export: cannot write ")
    assert line.endswith(": File too large")
    assert [path.name for path in tmp_path.iterdir()] == ["lenet5.onnx"]
    assert old.read_bytes() == b"the old file"


def test_an_interrupt_while_the_graph_is_compared_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(_INTERRUPTED)
    done = _export(tmp_path, "mine:Interrupted", limited=False)
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines() == ["convlens export: interrupted"]
    assert done.stdout == ""
    assert list(tmp_path.glob("*.onnx*")) + list(tmp_path.glob(".*")) == []


def test_an_interrupted_export_of_all_is_one_line_too(tmp_path: Path) -> None:
    """Ctrl-C reaches the process that exports as well, while it still imports torch."""
    process = subprocess.Popen(
        [sys.executable, "-m", "convlens.cli", "export", "--all", "--weights", "random"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_allow_interrupts,
        start_new_session=True,
    )
    exporting = psutil.Process(process.pid)
    while len(exporting.children()) < 2:  # multiprocessing's tracker, and the exporter
        time.sleep(0.05)
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "convlens export: interrupted\n"
