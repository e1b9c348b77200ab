"""`convlens classify` against a real server."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support import DIGITS, RunningServer, grey_png


def _classify(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "convlens.cli", "classify", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_each_picture_gets_its_labels(lenet5_server: RunningServer) -> None:
    done = _classify("--address", lenet5_server.address, "--top", "1", *map(str, DIGITS))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(DIGITS)
    for picture, head, best in zip(DIGITS, lines[::2], lines[1::2], strict=True):
        assert head == f"{picture}: lenet5"
        assert best.split()[-1] == picture.name.split("-")[0]


def test_an_unreadable_picture_among_good_ones_is_named_and_the_others_answered(
    lenet5_server: RunningServer, tmp_path: Path
) -> None:
    broken, missing = tmp_path / "broken.png", tmp_path / "missing.png"
    broken.write_bytes(DIGITS[0].read_bytes()[:100])
    images = [str(DIGITS[0]), str(broken), str(missing), str(DIGITS[1])]
    done = _classify("--address", lenet5_server.address, *images)
    assert done.returncode == 1
    assert done.stdout.count(": lenet5\n") == 2
    problems = done.stderr.splitlines()
    assert problems[0].startswith(f"convlens classify: {broken}: the picture is broken")
    assert problems[1] == f"convlens classify: {missing}: cannot be read: No such file or directory"
    assert problems[2] == "convlens classify: 2 of 4 pictures failed"


def test_json_gives_one_object_a_line_in_the_order_of_the_pictures(
    lenet5_server: RunningServer, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    images = [*map(str, DIGITS[:5]), str(broken), *map(str, DIGITS[5:])]
    done = _classify("--address", lenet5_server.address, "--json", "--top", "2", *images)
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    assert [entry["image"] for entry in objects] == images
    for entry in objects:
        if entry["image"] == str(broken):
            assert entry["error"]["code"] == "INVALID_ARGUMENT"
            assert "not a picture" in entry["error"]["message"]
        else:
            assert entry["model"] == "lenet5"
            assert entry["version"] == "1"
            assert len(entry["predictions"]) == 2
            assert entry["predictions"][0].keys() == {"index", "label", "probability"}
            assert entry["timing"]["total_us"] > 0
            assert entry["weights_origin"] == "trained"


def test_predictions_of_random_weights_are_called_random(
    two_model_server: RunningServer, tmp_path: Path
) -> None:
    picture = tmp_path / "white.png"
    picture.write_bytes(grey_png(255))
    address = ("--address", two_model_server.address)
    random = _classify(*address, "--model", "versions", str(picture))
    assert "random weights" in random.stdout
    other = _classify(*address, "--model", "brightness", str(picture))
    assert other.returncode == 0
    assert "random weights" not in other.stdout


def test_no_server_at_the_address_is_one_line_that_names_it() -> None:
    done = _classify("--address", "127.0.0.1:1", "--timeout", "5", str(DIGITS[0]))
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr
