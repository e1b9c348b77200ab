"""`convlens analyze FILE.onnx`: report every layer of an ONNX file."""

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from convlens.analysis.errors import AnalysisError
from convlens.cli.arguments import positive
from convlens.cli.errors import CommandError, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from convlens.analysis.report import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="FILE.onnx", type=Path)
    parser.add_argument(
        "--input-size",
        metavar="HxW",
        type=_size,
        help="height and width of the picture (default: the file's)",
    )
    parser.add_argument(
        "--batch", metavar="N", type=positive, help="pictures a batch (default: the file's)"
    )
    parser.add_argument("--format", choices=("text", "json", "csv"), default="text")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write there, not here")
    parser.add_argument(
        "--explain",
        metavar="LAYER",
        help="how the numbers of one layer come about; LAYER as the table or the file names it",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="run the model with onnxruntime and compare every shape, and some receptive fields",
    )


def run(arguments: argparse.Namespace) -> int:
    """Analyse the file and print or write the report."""
    if arguments.explain is not None and arguments.format != "text":
        raise UsageError("--explain gives text: leave out --format")
    if arguments.verify:
        if arguments.format != "text" or arguments.explain is not None:
            raise UsageError("--verify gives text of its own: leave out --format and --explain")
        return _verify(arguments)
    # Imported here because it brings in onnx, which `--help` does not need.
    from convlens.analysis import analyze

    try:
        report = analyze(arguments.file, arguments.batch, arguments.input_size)
        if arguments.format == "text":
            _write_text(_text(report, arguments.explain), arguments.output)
        else:
            _write(_data(report, arguments.format), arguments.output)
    except AnalysisError as error:
        raise CommandError(str(error)) from error
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    """Compare what was computed with a run; 1 where something differs."""
    from convlens.analysis.render_text import printable
    from convlens.analysis.verification import verify

    try:
        from convlens.cli.runtime import open_session
        from convlens.server.session import RUNTIME_ERRORS
    except ImportError as error:
        raise CommandError("--verify needs onnxruntime: pip install 'convlens[serve]'") from error
    try:
        verification = verify(arguments.file, open_session, arguments.batch, arguments.input_size)
    except AnalysisError as error:
        raise CommandError(str(error)) from error
    except RUNTIME_ERRORS as error:
        raise CommandError(f"{arguments.file}: onnxruntime cannot run it: {error}") from error
    _write("".join(f"{printable(line)}\n" for line in verification.lines), arguments.output)
    return 0 if verification.holds else 1


def _text(report: "Report", explained: str | None) -> "RenderableType":
    from convlens.analysis.explanation import explain
    from convlens.analysis.render_explanation import explanation_text
    from convlens.analysis.render_text import report_text

    if explained is None:
        return report_text(report)
    return explanation_text(explain(report, explained))


def _data(report: "Report", data_format: str) -> str:
    import json

    from convlens.analysis.render_csv import report_csv

    if data_format == "csv":
        return report_csv(report)
    return json.dumps(report.to_json(), indent=2) + "\n"


def _write_text(text: "RenderableType", output: Path | None) -> None:
    """Fit the text to a terminal; write it in full anywhere else."""
    from rich.console import Console

    from convlens.analysis.render_text import plain

    if output is None and sys.stdout.isatty():
        Console(highlight=False).print(text)
    else:
        _write(plain(text), output)


def _write(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise CommandError(f"{output}: {error.strerror}") from error


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,8})x([1-9]\d{0,8})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW, as 224x224")
    return int(match[1]), int(match[2])
