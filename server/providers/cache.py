"""Files that make the next start faster: found whole or not at all."""

import fcntl
import hashlib
import logging
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)

CPU_INFO = Path("/proc/cpuinfo")


def processor_name(cpu_info: Path = CPU_INFO) -> str:
    """The processor's model, as the operating system calls it."""
    try:
        lines = cpu_info.read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def cache_folder(root: Path, *key: str) -> Path | None:
    """Make the folder that belongs to a key.

    Args:
        root: of the cache.
        key: what its contents depend on; the processor is added.

    Returns:
        The folder; None where it cannot be written, which is logged.
    """
    text = "\0".join((*key, processor_name()))
    folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logger.warning("no cache in %s: %s", root, error.strerror)
        return None
    if not os.access(folder, os.W_OK):
        logger.warning("no cache in %s: it may not be written", folder)
        return None
    return folder


def cached_folder(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Files of the cache that belong together, made the first time.

    Args:
        folder: from `cache_folder`.
        name: of the folder in it that they are kept in.
        make: writes them to the folder that it is given; nobody sees it before that is done.
    """
    path = folder / name
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            made = Path(unfinished) / name
            made.mkdir()
            make(made)
            try:
                made.rename(path)
            except OSError:
                if not path.exists():  # else another process was faster
                    raise
    return path


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes and threads out of a folder that is filled without care for readers.

    Args:
        folder: from `cache_folder`; where its file system has no locks nobody is kept out.
    """
    with (folder / "lock").open("w") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
