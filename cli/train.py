"""`convlens train`: a folder of pictures becomes a self-describing ONNX file that knows them."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from convlens.cli.arguments import natural, positive, share
from convlens.cli.exporting import (
    exporting,
    parity_fact,
    print_facts,
    reported_progress,
    written_fact,
)
from convlens.cli.output import require_folder

if TYPE_CHECKING:
    from convlens.export import TrainingResult

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
        type=_at_most_half,
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
    # Resolved for its name alone: "." has none of its own.
    output = arguments.output or Path(f"{Path(arguments.folder).resolve().name}.onnx")
    require_folder(output)
    # Importing torch takes seconds, which `--help` need not wait for.
    from convlens.export import train_own

    with exporting(), reported_progress() as report:
        result = train_own(
            arguments.folder,
            arguments.arch,
            output,
            epochs=arguments.epochs,
            seed=arguments.seed,
            held_out=arguments.held_out,
            report=report,
        )
    for line in result.skipped:
        print(f"convlens train: skipped {line}", file=sys.stderr)
    _print_result(result)
    return 0


def _print_result(result: "TrainingResult") -> None:
    classes = ", ".join(
        f"{label} {count}" for label, count in zip(result.labels, result.pictures, strict=True)
    )
    score = result.export.card.weights["accuracy"]["held_out_top1"]
    always = max(result.pictures) / sum(result.pictures)
    print_facts(
        (
            ("pictures", f"{sum(result.pictures)} of {len(result.labels)} classes: {classes}"),
            (
                "trained",
                f"on {result.training}, {result.epochs} epochs, "
                f"stopped by {result.validation} others",
            ),
            (
                "held out",
                f"{score:.2%} of {result.held_out} named rightly "
                f"(always the most frequent class: {always:.2%})",
            ),
            parity_fact(result.export.parity),
            written_fact(result.export),
        )
    )


def _at_most_half(text: str) -> float:
    value = share(text)
    if not 0.0 < value <= _LARGEST_SHARE:
        raise argparse.ArgumentTypeError(
            f"must be more than 0 and at most {_LARGEST_SHARE}, is {text!r}"
        )
    return value
