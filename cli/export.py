"""`convlens export`: a PyTorch network becomes a self-describing ONNX file."""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from convlens.cli.errors import CommandError, UsageError

if TYPE_CHECKING:
    from convlens.export import ExportResult
    from convlens.export.training import Progress as OnProgress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="an architecture, see --list")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write (default: NAME.onnx)"
    )
    parser.add_argument(
        "--weights",
        default="default",
        metavar="default|random|FILE.pth",
        help="trained weights, random ones, or a state dict of your own (default: default)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of initialisation and training (0)"
    )
    parser.add_argument(
        "--list", action="store_true", help="list the architectures and their weights"
    )


def run(arguments: argparse.Namespace) -> int:
    """Export one architecture, or list them all.

    Raises:
        UsageError: no name, or one that is not known.
        CommandError: the export failed; no file is left behind.
    """
    # Importing torch takes seconds, which `--help` need not wait for.
    from convlens.export import ExportError, UnknownArchitectureError, export_model

    if arguments.list:
        _print_architectures()
        return 0
    if arguments.name is None:
        raise UsageError("which architecture? `convlens export --list` shows them")
    output = arguments.output or Path(f"{arguments.name}.onnx")
    try:
        with _training_bar() as progress:
            result = export_model(
                arguments.name,
                output,
                weights=arguments.weights,
                seed=arguments.seed,
                progress=progress,
            )
    except UnknownArchitectureError as error:
        raise UsageError(str(error)) from error
    except ExportError as error:
        raise CommandError(str(error)) from error
    _print_result(result)
    return 0


def _print_architectures() -> None:
    from convlens.export import ARCHITECTURES

    rows = [
        ("NAME", "FAMILY", "PARAMETERS", "INPUT", "DEFAULT WEIGHTS"),
        *(
            (
                architecture.name,
                architecture.family,
                f"{architecture.count_parameters():,}",
                _by(architecture.input_shape),
                architecture.default_weights.summary,
            )
            for architecture in ARCHITECTURES.values()
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, family, parameters, size, weights in rows:
        print(
            f"{name:<{widths[0]}}  {family:<{widths[1]}}  {parameters:>{widths[2]}}  "
            f"{size:<{widths[3]}}  {weights}"
        )
    print("`--weights random` and `--weights FILE.pth` work with each of them.")


def _print_result(result: "ExportResult") -> None:
    parity = result.parity
    batch_sizes = " and ".join(map(str, parity.batch_sizes))
    print(f"weights  {_describe(result.card.weights)}")
    print(
        f"parity   at most {parity.max_relative:.1e} of the outputs' spread away from PyTorch, "
        f"at batch sizes {batch_sizes} (limit {parity.limit:.0e})"
    )
    print(
        f"written  {result.path}: {result.file_bytes:,} bytes, {result.parameters:,} parameters, "
        f"input {_by(result.input_shape)}"
    )


def _describe(weights: Mapping[str, Any]) -> str:
    if weights["origin"] == "random":
        return f"random weights (seed {weights['seed']}): the predictions mean nothing"
    source = weights["dataset"] if weights["origin"] == "trained" else weights["source"]
    accuracy = weights.get("accuracy", {})
    stated = "".join(f", {name.replace('_', ' ')} {value:.2%}" for name, value in accuracy.items())
    return f"{weights['origin']}: {source}{stated}"


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


@contextmanager
def _training_bar() -> Iterator["OnProgress"]:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)
