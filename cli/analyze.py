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
    parser.add_argument(
        "--symbolic",
        action="store_true",
        help="shapes, MACs and memory as formulas in N, H and W, where no number is given for them",
    )
    parser.add_argument(
        "--convention",
        choices=("torchvision", "fvcore", "flops", "onnx-tool"),
        help="state the totals as that tool counts them too, and how the two differ",
    )
    parser.add_argument("--format", choices=("text", "json", "csv"), default="text")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write there, not here")
    parser.add_argument(
        "--explain",
        metavar="LAYER",
        help="how the numbers of one layer come about; LAYER as the table or the file names it",
    )


def run(arguments: argparse.Namespace) -> int:
    """Analyse the file and print or write the report."""
    if arguments.explain is not None and arguments.format != "text":
        raise UsageError("--explain gives text: leave out --format")
    if arguments.convention is not None and arguments.format == "csv":
        raise UsageError("--convention states totals, and CSV has none: leave out --format csv")
    # Imported here because it brings in onnx, which `--help` does not need.
    from convlens.analysis import analyze

    try:
        report = analyze(
            arguments.file, arguments.batch, arguments.input_size, symbolic=arguments.symbolic
        )
        if arguments.format == "text":
            text = _text(report, arguments.explain, arguments.convention)
            _write_text(text, arguments.output)
        else:
            _write(_data(report, arguments.format, arguments.convention), arguments.output)
    except AnalysisError as error:
        raise CommandError(str(error)) from error
    return 0


def _text(report: "Report", explained: str | None, convention: str | None) -> "RenderableType":
    from rich.console import Group

    from convlens.analysis.convention import in_convention
    from convlens.analysis.explanation import explain
    from convlens.analysis.render_explanation import explanation_text
    from convlens.analysis.render_text import convention_text, report_text

    if explained is None and convention is not None:
        return Group(report_text(report), convention_text(in_convention(report, convention)))
    if explained is None:
        return report_text(report)
    return explanation_text(explain(report, explained))


def _data(report: "Report", data_format: str, convention: str | None) -> str:
    import json

    from convlens.analysis.convention import in_convention
    from convlens.analysis.render_csv import report_csv

    if data_format == "csv":
        return report_csv(report)
    content = report.to_json()
    if convention is not None:
        content["convention"] = in_convention(report, convention).to_json()
    return json.dumps(content, indent=2) + "\n"


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
