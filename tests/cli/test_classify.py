"""`convlens classify` against a real server."""

import fcntl
import hashlib
import json
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

from tests.support import BUNDLED, DIGITS, RunningServer, grey_png, running_server

COMMAND = (sys.executable, "-m", "convlens.cli", "classify")
FOLDER = DIGITS[0].parent


def _classify(
    *words: str, stdin: bytes = b"", **environment: str
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [*COMMAND, *words],
        capture_output=True,
        input=stdin,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def _images(done: "subprocess.CompletedProcess[str]") -> list[str]:
    return [json.loads(line)["image"] for line in done.stdout.splitlines()]


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
    done = _classify("--address", "127.0.0.1:1", "--retries", "0", str(DIGITS[0]))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("convlens classify: 127.0.0.1:1: ")


def test_a_folder_is_searched_to_the_bottom_for_files_with_a_picture_s_suffix(
    lenet5_server: RunningServer, tmp_path: Path
) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    wanted = [tmp_path / "z.PNG", tmp_path / "b" / "y.png", tmp_path / "b" / "c" / "x.png"]
    for path in (*wanted, tmp_path / "notes.txt", tmp_path / ".hidden.png"):
        shutil.copy(DIGITS[0], path)
    done = _classify("--address", lenet5_server.address, "--json", str(tmp_path))
    assert done.returncode == 0
    assert _images(done) == list(map(str, wanted))
    (tmp_path / "empty").mkdir()
    empty = _classify("--address", lenet5_server.address, str(tmp_path / "empty"))
    assert empty.returncode == 1
    assert "empty: no picture in it" in empty.stderr


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_answered(
    lenet5_server: RunningServer, tmp_path: Path
) -> None:
    shutil.copy(DIGITS[0], tmp_path)
    deep = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):  # longer than a path may be: that stops root as well
        os.mkdir("x" * 250, dir_fd=deep)
        deep, parent = os.open("x" * 250, os.O_RDONLY, dir_fd=deep), deep
        os.close(parent)
    os.close(deep)
    done = _classify("--address", lenet5_server.address, str(tmp_path))
    assert done.returncode == 1
    assert done.stdout.startswith(f"{tmp_path / DIGITS[0].name}: lenet5\n")
    folder, summary = done.stderr.splitlines()
    assert folder.endswith("x: cannot be read: File name too long")
    assert summary == "convlens classify: 1 of 2 pictures failed"


def test_a_pipe_gives_a_picture_and_an_interrupt_ends_the_wait_for_it(
    lenet5_server: RunningServer, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    with subprocess.Popen(
        [*COMMAND, "--address", lenet5_server.address, "--json", str(pipe), str(pipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        pipe.write_bytes(DIGITS[0].read_bytes())
        answer = json.loads(process.stdout.readline())
        assert answer["image"] == str(pipe)
        assert answer["predictions"][0]["label"] == DIGITS[0].name[0]
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(20) == 130
        finally:
            process.kill()
        assert process.stderr.read() == "convlens classify: interrupted\n"


def test_a_pipe_without_end_is_given_up_and_what_follows_it_is_answered(
    lenet5_server: RunningServer, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    command = shlex.join([*COMMAND, "--address", lenet5_server.address])
    done = subprocess.run(
        ["bash", "-c", f"yes >{pipe} & {command} {pipe} <(cat {DIGITS[0]}) {DIGITS[1]}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.count(": lenet5\n") == 2
    assert "larger than" in done.stderr


def test_a_quoted_pattern_is_expanded(lenet5_server: RunningServer, tmp_path: Path) -> None:
    address = ("--address", lenet5_server.address, "--json")
    threes = sorted(str(path) for path in FOLDER.glob("3-*.png"))
    assert _images(_classify(*address, f"{FOLDER.parent}/**/3-*.png")) == threes
    odd = tmp_path / "[1].png"
    shutil.copy(DIGITS[0], odd)
    assert _images(_classify(*address, str(odd))) == [str(odd)]
    nothing = _classify(*address, f"{tmp_path}/*.jpg")
    assert nothing.returncode == 1
    assert _images(nothing) == [f"{tmp_path}/*.jpg"]


def test_standard_input_gives_one_picture_or_a_list_of_paths(
    lenet5_server: RunningServer, tmp_path: Path
) -> None:
    address = ("--address", lenet5_server.address, "--json")
    picture = _classify(*address, "-", stdin=DIGITS[0].read_bytes())
    assert _images(picture) == ["-"]
    assert json.loads(picture.stdout)["predictions"][0]["label"] == DIGITS[0].name[0]
    paths = "".join(f"{path}\n" for path in DIGITS)
    assert _images(_classify(*address, "--from-file", "-", stdin=paths.encode())) == list(
        map(str, DIGITS)
    )
    listed = tmp_path / "list.txt"
    listed.write_text(paths)
    assert _images(_classify(*address, "--from-file", str(listed))) == list(map(str, DIGITS))
    both = _classify(*address, "-", "--from-file", "-", stdin=b"")
    assert both.returncode == 2
    assert _classify(*address).returncode == 2


def test_a_path_on_a_pipe_is_answered_before_the_next_one_comes(
    lenet5_server: RunningServer,
) -> None:
    command = [*COMMAND, "--address", lenet5_server.address, "--json", "--from-file", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for path in DIGITS[:3]:
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["image"] == str(path)


def test_what_every_picture_would_meet_ends_the_run_at_the_first(
    lenet5_server: RunningServer,
) -> None:
    done = _classify("--address", lenet5_server.address, "--model", "nobody", str(FOLDER))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "'nobody'" in line


def test_the_token_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    tokens, file = tmp_path / "tokens.toml", tmp_path / "token"
    tokens.write_text(f'[me]\nsha256 = "{hashlib.sha256(b"open").hexdigest()}"\n')
    file.write_text("open\n")
    with running_server("--tokens", str(tokens)) as server:
        words = ("--address", server.address, str(DIGITS[0]))
        assert _classify(*words).returncode == 1
        assert _classify(*words, CONVLENS_TOKEN="open").returncode == 0
        assert _classify(*words, "--token-file", str(file)).returncode == 0


def test_wrong_words_of_the_shell_are_one_line(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("two\nlines")
    for words, stdin, said in (
        (["--token-file", str(token)], b"", "must be one line of printable ASCII"),
        (["--tls-cert", str(token)], b"", "TLS needs both --tls-cert and --tls-key"),
        (["--tls-ca", str(token)], b"", "not PEM certificates"),
        (["--model", os.fsdecode(b"\xff")], b"", "must be UTF-8 text"),
        (["--from-file", "-"], b"x" * 200_000, "a line is too long for a path"),
    ):
        picture = [] if stdin else [str(DIGITS[0])]
        done = _classify("--retries", "0", *words, *picture, stdin=stdin)
        assert done.returncode in (1, 2)
        assert said in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_an_output_that_cannot_be_written_is_one_line(lenet5_server: RunningServer) -> None:
    classify = ["classify", "--address", lenet5_server.address, str(DIGITS[0])]
    for words in (classify, ["analyze", str(BUNDLED)]):
        with open("/dev/full", "w") as full:  # noqa: PTH123 - as a shell's >/dev/full
            done = subprocess.run(
                [*COMMAND[:-1], *words],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            f"convlens {words[0]}: the output cannot be written: No space left on device"
        ]


def test_a_terminal_shows_a_bar_and_a_pipe_gets_clean_lines(lenet5_server: RunningServer) -> None:
    master, terminal = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "--address", lenet5_server.address, "--json", str(FOLDER)],
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(terminal)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert f"{len(DIGITS)}/{len(DIGITS)}" in shown
    assert _images(done) == list(map(str, DIGITS))


def test_a_reader_who_leaves_and_an_interrupt_end_it_quietly(slow_server: RunningServer) -> None:
    words = ("--address", slow_server.address, "--json", "--concurrency", "1")
    command = [*COMMAND, *words, *map(str, DIGITS)]
    for leave in (False, True):
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell starts what it runs in the background with interrupts ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            if leave:
                process.stdout.close()
            else:
                process.send_signal(signal.SIGINT)
            said = process.stderr.read()
        assert process.returncode == (1 if leave else 130)
        assert said == ("" if leave else "convlens classify: interrupted\n")


def test_standard_streams_may_be_empty_or_closed(lenet5_server: RunningServer) -> None:
    """A job of cron has /dev/null for it, for which an event loop would wait for ever."""
    command = (*COMMAND, "--address", lenet5_server.address)
    for words, redirection, said in (
        ("--from-file -", "</dev/null", ""),
        ("-", "</dev/null", "convlens classify: -: the picture is empty (0 bytes)"),
        ("-", "<&-", "convlens classify: standard input is closed"),
        ("--from-file -", "<&-", "convlens classify: standard input is closed"),
        (str(DIGITS[0]), ">&-", ""),
    ):
        done = subprocess.run(
            f"{shlex.join(command)} {words} {redirection}",
            shell=True,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.stderr.partition("\n")[0] == said, (words, redirection)
        assert done.returncode == bool(said)


def test_an_interrupt_ends_the_wait_for_a_picture_on_standard_input(
    lenet5_server: RunningServer,
) -> None:
    with subprocess.Popen(
        [*COMMAND, "--address", lenet5_server.address, "--from-file", "/dev/null", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdin is not None
        process.stdin.write("the beginning of a picture")
        process.stdin.flush()
        _wait_until_read(process)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(20) == 130
        finally:
            process.kill()
        assert process.stderr is not None
        assert process.stderr.read() == "convlens classify: interrupted\n"


def _wait_until_read(process: "subprocess.Popen[str]") -> None:
    """Until the process has taken what was written to its standard input."""
    assert process.stdin is not None
    for _ in range(1000):
        waiting = fcntl.ioctl(process.stdin.fileno(), termios.FIONREAD, b"\0" * 4)
        if not any(waiting):
            return
        time.sleep(0.02)
    raise AssertionError("standard input is not read")


def test_a_file_without_end_is_too_large(lenet5_server: RunningServer) -> None:
    done = _classify("--address", lenet5_server.address, "/dev/zero", str(DIGITS[0]))
    assert done.returncode == 1
    assert done.stdout.startswith(f"{DIGITS[0]}: lenet5\n")
    assert done.stderr.splitlines()[0] == (
        "convlens classify: /dev/zero: larger than the 33,554,432 bytes that can be sent"
    )


def test_an_address_that_grpc_would_guess_at_is_refused() -> None:
    for address in ("localhost", "127.0.0.1:99999", "http://127.0.0.1:1", "", "::1:1", "\udcff:1"):
        done = _classify("--address", address, str(DIGITS[0]))
        assert done.returncode == 2, address
        assert done.stderr.startswith("convlens classify: --address: an address must be HOST:PORT")
        assert done.stderr.count("\n") == 1


def test_a_name_gives_no_orders_to_the_terminal_and_is_json_in_every_encoding(
    lenet5_server: RunningServer, tmp_path: Path
) -> None:
    picture = tmp_path / "\x1b[31m é.png"
    shutil.copy(DIGITS[0], picture)
    words = ("--address", lenet5_server.address, str(picture), f"{picture}.missing")
    done = _classify(*words)
    assert f"{tmp_path}/\\x1b[31m é.png: lenet5\n" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    for encoding in ("utf-8", "ascii", "latin-1"):
        done = _classify(*words, "--json", PYTHONIOENCODING=encoding)
        assert _images(done) == list(words[2:])
