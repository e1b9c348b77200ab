"""Files appear whole or not at all."""

import os
from pathlib import Path

from convlens.export.errors import WriteError


def require_writable(path: Path) -> None:
    """Fail now rather than after minutes of work, where the file cannot be written.

    Raises:
        WriteError: the path is a folder or a device, or its folder is missing or not writable.
    """
    target = _target(path)
    if target.is_dir():
        raise WriteError(f"cannot write {path}: it is a folder")
    # Replaced by a file, /dev/null would be gone for every program.
    if target.exists() and not target.is_file():
        raise WriteError(f"cannot write {path}: it is not a plain file")
    if not target.parent.is_dir():
        raise WriteError(f"cannot write {path}: there is no folder {target.parent}")
    if not os.access(target.parent, os.W_OK):
        raise WriteError(f"cannot write {path}: the folder is not writable")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the whole new one, whatever happens.

    A symbolic link stays one, and what it points to is replaced.

    Raises:
        WriteError: the disk is full, the folder not writable, ...
    """
    # Beside the target, since a rename is atomic within one file system only; and not by tempfile,
    # whose files only their owner may read.
    target = _target(path)
    # A name may have 255 bytes, and a character 4 of them.
    half = target.with_name(f".{target.name[:48]}.{os.getpid()}.tmp")
    try:
        try:
            with half.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            half.replace(target)
        finally:
            half.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror}") from error


def _target(path: Path) -> Path:
    """Where a symbolic link leads; the path as it is where there is none."""
    try:
        return path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError) as error:  # a name too long, links in a circle
        raise WriteError(f"cannot write {path}: {getattr(error, 'strerror', error)}") from error
