"""Files appear whole or not at all."""

import os
from pathlib import Path

from convlens.export.errors import WriteError


def require_writable(path: Path) -> None:
    """Fail now rather than after minutes of work, where the file cannot be written.

    Raises:
        WriteError: the path is a folder, or its folder is missing or not writable.
    """
    if path.is_dir():
        raise WriteError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise WriteError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise WriteError(f"cannot write {path}: the folder is not writable")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the whole new one, whatever happens.

    Raises:
        WriteError: the disk is full, the folder not writable, ...
    """
    # Beside the target, since a rename is atomic within one file system only; and not by tempfile,
    # whose files only their owner may read.
    half = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with half.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            half.replace(path)
        finally:
            half.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror}") from error
