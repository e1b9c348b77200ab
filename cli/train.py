"""`convlens train`: a folder of pictures becomes a self-describing ONNX file that knows them."""

import argparse
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from convlens.cli.arguments import natural, positive
from convlens.cli.errors import CommandError, UsageError

if TYPE_CHECKING:
    from convlens.export.trainer import Report, TrainingResult

_LARGEST_SHARE = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        help="has a folder of pictures for each class; or the word digits: scikit-learn's",
    )
    parser.add_argument(
        "--arch",
        required=True,
        metavar="NAME",
        help="an architecture, see `convlens export --list`, or package.module:function",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write (default: FOLDER.onnx)"
    )
    parser.add_argument(
        "--epochs",
        type=positive,
        metavar="N",
        help="passes over the pictures, at most (100 for a new head, 60 for a whole network)",
    )
    parser.add_argument(
        "--seed", type=natural, default=0, metavar="N", help="of split and training (0)"
    )
    parser.add_argument(
        "--held-out",
        type=_share,
        default=0.2,
        metavar="SHARE",
        help="of each class, kept for the final score (0.2)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train, measure, export, and say what came out.

    Raises:
        UsageError: no architecture has that name.
        CommandError: the training or the export failed; no file is left behind.
    """
    # Importing torch takes seconds, which `--help` need not wait for.
    from convlens.export import ExportError, UnknownArchitectureError, train_own

    # A network of the user's own lies where they are, as for `python -m`.
    sys.path.insert(0, str(Path.cwd()))
    # Resolved for its name alone: "." has none of its own.
    output = arguments.output or Path(f"{Path(arguments.folder).resolve().name}.onnx")
    try:
        with _bar() as report:
            result = train_own(
                arguments.folder,
                arguments.arch,
                output,
                epochs=arguments.epochs,
                seed=arguments.seed,
                held_out=arguments.held_out,
                report=report,
            )
    except UnknownArchitectureError as error:
        raise UsageError(str(error)) from error
    except ExportError as error:
        raise CommandError(str(error)) from error
    for line in result.skipped:
        print(f"convlens train: skipped {line}", file=sys.stderr)
    _print_result(result)
    return 0


def _print_result(result: "TrainingResult") -> None:
    exported = result.export
    classes = ", ".join(
        f"{label} {count}" for label, count in zip(result.labels, result.pictures, strict=True)
    )
    print(f"pictures  {sum(result.pictures)} of {len(result.labels)} classes: {classes}")
    print(
        f"trained   on {result.training}, {result.epochs} epochs, "
        f"stopped by {result.validation} others"
    )
    score = exported.card.weights["accuracy"]["held_out_top1"]
    always = max(result.pictures) / sum(result.pictures)
    print(
        f"held out  {score:.2%} of {result.held_out} named rightly "
        f"(always the most frequent class: {always:.2%})"
    )
    print(
        f"parity    at most {exported.parity.max_relative:.1e} of the outputs' spread away from "
        f"PyTorch (limit {exported.parity.limit:.0e})"
    )
    size = "x".join(map(str, exported.input_shape))
    print(
        f"written   {exported.path}: {exported.file_bytes:,} bytes, "
        f"{exported.parameters:,} parameters, input {size}"
    )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value <= _LARGEST_SHARE:
        raise argparse.ArgumentTypeError(
            f"must be more than 0 and at most {_LARGEST_SHARE}, is {text!r}"
        )
    return value


@contextmanager
def _bar() -> Iterator["Report"]:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, visible=False)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total, visible=True
        )
