"""`convlens demo` runs the whole way and says so."""

import os
import subprocess
import sys

import pytest

from tests.support import DIGITS


@pytest.fixture(scope="module")
def demo() -> "subprocess.CompletedProcess[str]":
    """One run of the demo, where a server of one's own is set up in the environment."""
    command = [sys.executable, "-m", "convlens.cli", "demo"]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"CONVLENS_MODELS": "/nowhere"},
    )


def test_the_demo_passes_and_shows_each_picture(
    demo: "subprocess.CompletedProcess[str]",
) -> None:
    assert demo.returncode == 0, demo.stderr
    assert demo.stdout.rstrip().endswith("demo: passed: 20 of 20 answers were right")
    for picture in DIGITS:
        assert picture.name in demo.stdout


def test_the_demo_shows_latency_analysis_and_metrics(
    demo: "subprocess.CompletedProcess[str]",
) -> None:
    for text in ("p50", "p95", "p99", "61,706", "convlens_stage_seconds_count"):
        assert text in demo.stdout
    assert 'grpc_code="OK"' in demo.stdout


def test_the_demo_stops_its_server_cleanly(demo: "subprocess.CompletedProcess[str]") -> None:
    assert "stopping: requests in flight" in demo.stderr
    assert "Traceback" not in demo.stderr
