"""What the commands share that write a model file: progress, errors, and lines on the result."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from convlens.analysis.text_layout import printable
from convlens.cli.errors import CommandError, UsageError

if TYPE_CHECKING:
    from convlens.export import ExportResult, Parity

Fact = tuple[str, str]  # (what it is about, a line of text)


@contextmanager
def exporting() -> Iterator[None]:
    """Let the user's own networks be found, and turn what fails into a command's errors.

    Raises:
        UsageError: no architecture has that name.
        CommandError: the training or the export failed.
    """
    from convlens.export import ExportError, UnknownArchitectureError

    # A network of the user's own lies where they are, as for `python -m`.
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    except UnknownArchitectureError as error:
        raise UsageError(str(error)) from error
    except ExportError as error:
        raise CommandError(str(error)) from error


def progress_bar() -> Progress:
    """A bar on stderr that vanishes when it is done; none where stderr is no terminal."""
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def reported_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar that shows once something is reported: (what is being done, done, in all)."""
    with progress_bar() as bar:
        task = bar.add_task("", total=None, visible=False)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total, visible=True
        )


def print_facts(facts: Sequence[Fact]) -> None:
    """A line each, the texts below each other."""
    width = max(len(about) for about, _ in facts)
    for about, text in facts:
        print(f"{about:<{width}}  {printable(text)}")


def parity_fact(parity: "Parity") -> Fact:
    """How far the graph is from PyTorch, and on what that was measured."""
    *others, last = map(str, parity.batch_sizes)
    return (
        "parity",
        f"at most {parity.max_relative:.1e} of the outputs' spread away from PyTorch, "
        f"at batch sizes {', '.join(others)} and {last} (limit {parity.limit:.0e})",
    )


def written_fact(result: "ExportResult") -> Fact:
    """Where the file is, and how large."""
    return (
        "written",
        f"{result.path}: {result.file_bytes:,} bytes, {result.parameters:,} parameters, "
        f"input {by(result.input_shape)}",
    )


def by(shape: tuple[int, ...]) -> str:
    """3x224x224."""
    return "x".join(map(str, shape))
