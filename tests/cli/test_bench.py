"""`convlens bench` against a real server."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support import DIGITS, RunningServer

COMMAND = (sys.executable, "-m", "convlens.cli", "bench")
SHORT = ("--duration", "0.3", "--warmup", "0.1")


def _bench(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, timeout=60, check=False
    )


def test_each_load_is_a_row_and_an_entry_of_the_json(
    lenet5_server: RunningServer, tmp_path: Path
) -> None:
    output = tmp_path / "bench.json"
    loads = ("--concurrency", "1,4", "--rate", "50", "--arrivals", "constant", *SHORT)
    words = ("--address", lenet5_server.address, "--pictures", str(DIGITS[0].parent))
    chart = tmp_path / "bench.svg"
    done = _bench(*words, *loads, "--output", str(output), "--chart", str(chart))
    assert done.returncode == 0, done.stderr
    assert "1 in flight" in done.stdout
    assert "50/s constant" in done.stdout
    document = json.loads(output.read_text())
    assert document["target"]["requests"].startswith("20 pictures")
    assert [load["kind"] for load in document["loads"]] == ["closed", "closed", "open"]
    for load in document["loads"]:
        assert load["answers_per_second"] > 0
        assert 0 < load["latency_ms"]["p50"] <= load["latency_ms"]["p99"]
        assert load["latency_ms"]["p99"] <= load["latency_ms"]["max"]
        assert load["errors"] == {}
        assert load["client_cpu_us"] > 0
        inside = load["server_mean_ms"]
        assert 0 < inside["infer"] < inside["total"] < load["latency_ms"]["max"]
    drawn = ElementTree.parse(chart).getroot()
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("4 in flight") == 2
    titles = [element.text or "" for element in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert sum(text.startswith("infer: ") for text in titles) == 3


def test_of_more_pictures_than_are_kept_in_memory_some_are_sent(
    lenet5_server: RunningServer, tmp_path: Path
) -> None:
    for number in range(20):
        picture = tmp_path / f"{number}.png"
        picture.write_bytes(DIGITS[0].read_bytes())
        os.truncate(picture, 25 * 2**20)  # the rest takes no room on the disk
    done = _bench("--address", lenet5_server.address, "--pictures", str(tmp_path), *SHORT, "--json")
    assert "20 pictures, of which one in 2 is sent: 256 MiB of them are kept" in done.stderr
    assert json.loads(done.stdout)["target"]["requests"].startswith("10 pictures")


def test_tensors_are_measured_too_and_json_is_all_that_is_printed(
    lenet5_server: RunningServer,
) -> None:
    words = ("--address", lenet5_server.address, "--tensor", "--model", "lenet5@1")
    done = _bench(*words, "--concurrency", "2", *SHORT, "--json")
    assert json.loads(done.stdout)["target"]["method"].endswith("/ModelInfer")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "nobody"), "'nobody'"),
        (("--pictures", "nothing.png"), "nothing.png: cannot be read: No such file"),
        (("--pictures", "/dev/zero"), "/dev/zero: larger than the 33,554,432 bytes"),
        (("--output", "nowhere/x.json"), "there is no folder nowhere"),
        (("--chart", "/"), "it is a folder"),
        (("--rate", "0"), "must be rates"),
        (("--concurrency", "1,x"), "must be a whole number"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    lenet5_server: RunningServer, words: tuple[str, ...], said: str
) -> None:
    done = _bench("--address", lenet5_server.address, *words)
    assert done.returncode in (1, 2)
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_file_that_cannot_be_written_does_not_lose_the_measurements(
    lenet5_server: RunningServer,
) -> None:
    words = ("--address", lenet5_server.address, "--concurrency", "2", *SHORT)
    done = _bench(*words, "--output", "/dev/full")
    assert done.returncode == 1
    assert done.stderr == "convlens bench: /dev/full: No space left on device\n"
    assert "2 in flight" in done.stdout


def test_an_interrupt_keeps_the_loads_that_were_measured(
    lenet5_server: RunningServer, tmp_path: Path
) -> None:
    output = tmp_path / "bench.json"
    words = ("--address", lenet5_server.address, "--output", str(output))
    loads = ("--concurrency", "1,2", "--warmup", "0", "--duration", "2")
    master, terminal = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *words, *loads],
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
        env=os.environ | {"TERM": "xterm"},
        # A shell starts what it runs in the background with interrupts ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        os.close(terminal)
        said = b""
        while b"2 in flight" not in said:
            said += os.read(master, 1024)
        process.send_signal(signal.SIGINT)
        shown, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "1 in flight" in shown
    assert "2 in flight" not in shown
    assert [load["concurrency"] for load in json.loads(output.read_text())["loads"]] == [1]
    assert os.read(master, 65536).endswith(b"convlens bench: interrupted\r\n")
    os.close(master)
