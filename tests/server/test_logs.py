"""Logs for people and for programs."""

import json
import logging
import signal
import subprocess
import sys

import grpc
import pytest

from convlens.proto import classifier_pb2 as pb
from convlens.proto import classifier_pb2_grpc as pb_grpc
from convlens.server.logs import TextFormatter
from tests.support import DIGITS, running_server, serve_command


def _log_of_two_calls(*flags: str) -> list[str]:
    with running_server(*flags) as server:
        with grpc.insecure_channel(server.address) as channel:
            stub = pb_grpc.ClassifierStub(channel)
            metadata = (("x-request-id", "mine"),)
            stub.Classify(pb.ClassifyRequest(image=DIGITS[0].read_bytes()), metadata=metadata)
            with pytest.raises(grpc.RpcError):
                stub.Classify(pb.ClassifyRequest(image=b"nonsense"))
        server.process.send_signal(signal.SIGTERM)
        return server.process.communicate(timeout=30)[1].splitlines()


def test_json_logs_are_one_object_a_line_and_calls_carry_their_request_id() -> None:
    entries = [
        json.loads(line) for line in _log_of_two_calls("--log-format=json", "--access-log=1")
    ]
    assert all({"time", "level", "logger", "message"} <= entry.keys() for entry in entries)
    calls = [entry for entry in entries if entry["logger"] == "convlens.access"]
    assert [(entry["code"], entry["request_id"]) for entry in calls] == [
        ("OK", "mine"),
        ("INVALID_ARGUMENT", ""),
    ]
    assert calls[0]["method"] == "/convlens.v1.Classifier/Classify"
    assert calls[0]["milliseconds"] > 0


def test_text_logs_show_the_same_as_pairs() -> None:
    lines = [line for line in _log_of_two_calls("--access-log=1") if "convlens.access" in line]
    assert len(lines) == 2
    assert "code=OK" in lines[0]
    assert "request_id=mine" in lines[0]


def test_no_text_of_a_caller_begins_a_line_or_reaches_the_terminal_as_it_is() -> None:
    forged = "a\n2026-01-01 ERROR forged \x1b[31m\x9b1m\u2028"
    record = logging.makeLogRecord({"name": "x", "msg": forged, "fields": {"request_id": forged}})
    escaped = r"a\n2026-01-01 ERROR forged \x1b[31m\x9b1m\u2028"
    try:
        raise ValueError(forged)
    except ValueError:
        record.exc_info = sys.exc_info()
    first, *traceback = TextFormatter().format(record).split("\n")
    assert first.endswith(f"{escaped} request_id={escaped}")
    assert all(line.startswith("  ") for line in traceback)
    assert "\x1b" not in "".join(traceback)


def test_calls_are_not_logged_unless_asked() -> None:
    assert not [line for line in _log_of_two_calls() if "convlens.access" in line]


def test_a_share_of_the_calls_is_logged() -> None:
    with running_server("--access-log=0.5") as server:
        with grpc.insecure_channel(server.address) as channel:
            stub = pb_grpc.ClassifierStub(channel)
            for _ in range(200):
                stub.ListModels(pb.ListModelsRequest())
        server.process.send_signal(signal.SIGTERM)
        log = server.process.communicate(timeout=30)[1]
    assert 50 < log.count("convlens.access") < 150  # 100; either bound is seven deviations away


def test_a_full_disk_under_the_logs_does_not_hurt_serving() -> None:
    flags = ("--access-log=1", "--log-format=json", "--workers=1")
    with open("/dev/full", "w") as full:  # noqa: PTH123 - as a shell's 2>/dev/full
        process = subprocess.Popen(
            serve_command(*flags), stdout=subprocess.PIPE, stderr=full, text=True
        )
    with process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        with grpc.insecure_channel(words[words.index("on") + 1].rstrip(",")) as channel:
            stub = pb_grpc.ClassifierStub(channel)
            for _ in range(200):
                assert stub.Classify(pb.ClassifyRequest(image=DIGITS[0].read_bytes())).predictions
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
