"""`convlens analyze FILE.onnx`: report every layer of an ONNX file."""

import argparse
import gc
from pathlib import Path
from typing import TYPE_CHECKING

from convlens.analysis.errors import AnalysisError
from convlens.cli.arguments import picture_size, positive
from convlens.cli.errors import CommandError, UsageError
from convlens.cli.output import write, write_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from convlens.analysis.report import Report


FORMATS = ("text", "json", "csv", "markdown", "html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="FILE.onnx", type=Path)
    parser.add_argument(
        "--input-size",
        metavar="HxW",
        type=picture_size,
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
        help="state the totals as that tool counts them too, in text and JSON",
    )
    parser.add_argument("--format", choices=FORMATS, default="text")
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
    parser.add_argument(
        "--depth",
        metavar="N",
        type=positive,
        help="a row for each module N levels down, in text and Markdown (default: each layer)",
    )
    parser.add_argument(
        "--lint", action="store_true", help="what may be wrong with the network, and who says so"
    )


def run(arguments: argparse.Namespace) -> int:
    """Analyse the file and print or write the report."""
    _check_combination(arguments)
    if arguments.verify:
        return _verify(arguments)
    # Imported here because it brings in onnx's messages, which `--help` does not need.
    from convlens.analysis import analyze

    try:
        report = analyze(
            arguments.file, arguments.batch, arguments.input_size, symbolic=arguments.symbolic
        )
        if arguments.format == "text":
            write_text(_text(report, arguments), arguments.output)
        else:
            write(_data(report, arguments), arguments.output)
    except AnalysisError as error:
        raise CommandError(str(error)) from error
    # The process ends here: looking for garbage once more takes a seventh of its time.
    gc.freeze()
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    """Compare what was computed with a run; 1 where something differs."""
    from convlens.analysis.text_layout import printable
    from convlens.analysis.verification import verify

    try:
        from convlens.cli.runtime import open_session
        from convlens.server.providers import RUNTIME_ERRORS
    except ImportError as error:
        raise CommandError("--verify needs onnxruntime: pip install 'convlens[serve]'") from error
    try:
        verification = verify(arguments.file, open_session, arguments.batch, arguments.input_size)
    except AnalysisError as error:
        raise CommandError(str(error)) from error
    except RUNTIME_ERRORS as error:
        raise CommandError(f"{arguments.file}: onnxruntime cannot run it: {error}") from error
    write("".join(f"{printable(line)}\n" for line in verification.lines), arguments.output)
    return 0 if verification.holds else 1


def _check_combination(arguments: argparse.Namespace) -> None:
    if arguments.verify and (
        arguments.format != "text" or arguments.explain is not None or arguments.lint
    ):
        raise UsageError("--verify gives text of its own: leave out --format, --explain and --lint")
    if arguments.explain is not None and arguments.format != "text":
        raise UsageError("--explain gives text: leave out --format")
    if arguments.explain is not None and arguments.lint:
        raise UsageError("--explain and --lint are two reports: ask for one of them")
    if arguments.lint and arguments.format not in ("text", "json"):
        raise UsageError("--lint gives text or json")
    if arguments.depth is not None and arguments.format not in ("text", "markdown"):
        raise UsageError("--depth goes with text and markdown; the other formats hold every layer")
    if arguments.convention is not None and arguments.format not in ("text", "json"):
        raise UsageError("--convention goes with text and json")


def _text(report: "Report", arguments: argparse.Namespace) -> "RenderableType":
    if arguments.explain is not None:
        from convlens.analysis.explanation import explain
        from convlens.analysis.render_explanation import explanation_text

        return explanation_text(explain(report, arguments.explain))
    if arguments.lint:
        from convlens.analysis.linter import lint
        from convlens.analysis.render_findings import findings_text

        return findings_text(lint(report))
    from convlens.analysis.render_text import report_text

    return report_text(report, arguments.depth, arguments.convention)


def _data(report: "Report", arguments: argparse.Namespace) -> str:
    if arguments.format == "csv":
        from convlens.analysis.render_csv import report_csv

        return report_csv(report)
    if arguments.format == "markdown":
        from convlens.analysis.render_markdown import report_markdown

        return report_markdown(report, arguments.depth)
    if arguments.format == "html":
        from convlens.analysis.render_html import report_html

        return report_html(report)
    import json

    value = report.to_json()
    if arguments.convention is not None:
        from convlens.analysis.convention import in_convention

        value["convention"] = in_convention(report, arguments.convention).to_json()
    if arguments.lint:
        from convlens.analysis.linter import lint

        value["findings"] = [finding.to_json() for finding in lint(report)]
    return json.dumps(value, indent=2) + "\n"
