"""Where a command's report goes: a terminal, a pipe or a file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from convlens.cli.errors import CommandError

if TYPE_CHECKING:
    from rich.console import RenderableType


def write_text(text: "RenderableType", output: Path | None) -> None:
    """Fit the text to a terminal; write it in full anywhere else.

    Raises:
        CommandError: the file cannot be written.
    """
    from convlens.analysis.render_text import plain

    if output is None and sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False).print(text)
    else:
        write(plain(text), output)


def write(text: str, output: Path | None) -> None:
    """Write the text to a file, or where there is none to standard output.

    Raises:
        CommandError: the file cannot be written.
    """
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise CommandError(f"{output}: {error.strerror}") from error


def require_folder(output: Path) -> None:
    """Make sure that there is a folder to write into, before seconds or minutes of work.

    Raises:
        CommandError: there is none, or the path is itself a folder.
    """
    try:
        if not output.parent.is_dir():
            raise CommandError(f"cannot write {output}: there is no folder {output.parent}")
        if output.is_dir():
            raise CommandError(f"cannot write {output}: it is a folder")
    except OSError as error:  # a name too long
        raise CommandError(f"cannot write {output}: {error.strerror}") from error
