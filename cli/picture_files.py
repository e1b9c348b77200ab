"""Which pictures the words of a command line mean: files, folders, patterns."""

import asyncio
import glob
import os
import stat
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, Self

from convlens.cli.errors import CommandError
from convlens.client.connection import MAX_MESSAGE_BYTES

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

STDIN = "-"


def picture_files(words: Iterable[str]) -> Iterator[str]:
    """The paths that the words stand for, found as they are asked for.

    A folder stands for every file below it with a known suffix, a pattern (`**` for any folders)
    for what it matches; anything else is a path, whether or not there is such a file. A folder
    below it that cannot be read stands for itself.

    Raises:
        CommandError: there is no picture in a folder.
    """
    for word in words:
        if Path(word).is_dir():
            yield from _in_folder(word)
        elif glob.has_magic(word) and not Path(word).exists():
            yield from _matching(word)
        else:
            yield word


async def listed_files(file: str) -> AsyncIterator[str]:
    """The paths in a file, one a line, or those that come on standard input where it is "-".

    Raises:
        CommandError: the file cannot be read.
    """
    pipe = _stdin_pipe() if file == STDIN else _pipe(file)
    if pipe is None:
        for path in _lines(file):
            yield path
        return
    # Whoever writes them may wait for an answer before the next one.
    async with _stream(pipe) as stream:
        try:
            async for line in stream:
                if name := line.rstrip(b"\r\n"):
                    yield os.fsdecode(name)
        except ValueError as error:
            raise CommandError(f"--from-file {file}: a line is too long for a path") from error


class PipedPicture(bytes):
    """An encoded picture that came through a pipe, and what the command line calls the pipe."""

    def __new__(cls, content: bytes, _name: str) -> Self:
        """Hold the content."""
        return super().__new__(cls, content)

    def __init__(self, _content: bytes, name: str) -> None:
        self.name = name


async def stdin_picture() -> PipedPicture:
    """The picture on standard input, or the beginning of one that is too large to be sent.

    Raises:
        CommandError: standard input is closed.
    """
    if (pipe := _stdin_pipe()) is None:
        return PipedPicture(sys.stdin.buffer.read(MAX_MESSAGE_BYTES + 1), STDIN)
    return PipedPicture(await _read(pipe), STDIN)


async def picture(path: str) -> str | PipedPicture:
    """The path as it is; for that of a pipe, as `stdin_picture`, what comes through it."""
    pipe = _pipe(path)
    return path if pipe is None else PipedPicture(await _read(pipe), path)


def _stdin_pipe() -> IO[Any] | None:
    """Standard input where one may have to wait for it; None for a file.

    Raises:
        CommandError: it is closed.
    """
    if sys.stdin is None:
        raise CommandError("standard input is closed")
    mode = os.fstat(sys.stdin.fileno()).st_mode
    # Not every other device can be waited for: of /dev/null the event loop would never hear.
    is_pipe = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or sys.stdin.isatty()
    return sys.stdin if is_pipe else None


def _pipe(path: str) -> IO[Any] | None:
    """What a path names, opened, where that is a pipe that can be read."""
    try:
        if not Path(path).is_fifo():
            return None
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    except (OSError, ValueError):
        return None  # whoever opens it next says why


async def _read(pipe: IO[Any]) -> bytes:
    async with _stream(pipe) as stream:
        try:
            return await stream.readexactly(MAX_MESSAGE_BYTES + 1)
        except asyncio.IncompleteReadError as error:
            return error.partial


@asynccontextmanager
async def _stream(pipe: IO[Any]) -> AsyncIterator[asyncio.StreamReader]:
    """Wait for a pipe in the event loop: Ctrl-C ends that, as it would not end a thread's wait."""
    stream = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
    try:
        yield stream
    finally:
        transport.close()


def _lines(file: str) -> Iterator[str]:
    try:
        with sys.stdin.buffer if file == STDIN else Path(file).open("rb") as lines:
            for line in lines:
                if name := line.rstrip(b"\r\n"):
                    yield os.fsdecode(name)
    except OSError as error:
        raise CommandError(f"--from-file {file}: {error.strerror}") from error


def _in_folder(folder: str) -> Iterator[str]:
    found = False
    unreadable: list[str] = []
    for parent, folders, files in os.walk(folder, onerror=lambda e: unreadable.append(e.filename)):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                found = True
                yield os.path.join(parent, name)  # noqa: PTH118 - keeps the folder as it was given
    yield from unreadable  # whoever opens them says why
    if not found and not unreadable:
        raise CommandError(f"{folder}: no picture in it ({', '.join(sorted(SUFFIXES))})")


def _matching(pattern: str) -> Iterator[str]:
    # Not Path.glob, which takes no absolute pattern.
    matches = glob.iglob(pattern, recursive=True)  # noqa: PTH207
    paths = sorted(path for path in matches if Path(path).is_file())
    # A pattern without a match is reported as the missing file that it then names.
    yield from paths or [pattern]
