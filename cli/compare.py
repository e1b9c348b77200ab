"""`convlens compare A.onnx B.onnx`: what differs between two networks."""

import argparse
from pathlib import Path

from convlens.analysis.errors import AnalysisError
from convlens.cli.arguments import picture_size, positive
from convlens.cli.errors import CommandError
from convlens.cli.output import write, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("first", metavar="A.onnx", type=Path)
    parser.add_argument("second", metavar="B.onnx", type=Path)
    parser.add_argument(
        "--input-size",
        metavar="HxW",
        type=picture_size,
        help="height and width of the picture, for both (default: the files')",
    )
    parser.add_argument(
        "--batch", metavar="N", type=positive, help="pictures a batch (default: the files')"
    )
    parser.add_argument("--json", action="store_true", help="every layer, for a program to read")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write there, not here")


def run(arguments: argparse.Namespace) -> int:
    """Compare the files and print or write what differs."""
    # Imported here because it brings in onnx, which `--help` does not need.
    from convlens.analysis import analyze, compare

    try:
        comparison = compare(
            *(
                analyze(path, arguments.batch, arguments.input_size)
                for path in (arguments.first, arguments.second)
            )
        )
    except AnalysisError as error:
        raise CommandError(str(error)) from error
    if arguments.json:
        import json

        write(json.dumps(comparison.to_json(), indent=2) + "\n", arguments.output)
    else:
        from convlens.analysis.render_comparison import comparison_text

        write_text(comparison_text(comparison), arguments.output)
    return 0
