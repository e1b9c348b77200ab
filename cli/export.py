"""`convlens export`: a PyTorch network becomes a self-describing ONNX file."""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens.cli.arguments import natural, positive, share
from convlens.cli.errors import CommandError, UsageError
from convlens.cli.exporting import (
    Fact,
    by,
    exporting,
    parity_fact,
    print_facts,
    progress_bar,
    reported_progress,
    written_fact,
)
from convlens.cli.output import require_folder

if TYPE_CHECKING:
    from convlens.export import Agreement, ExportResult, GraphOptions, PrecisionOptions
    from convlens.export.zoo import Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="an architecture, see --list, or package.module:function of your own",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write (default: NAME.onnx)"
    )
    parser.add_argument(
        "--weights",
        default="default",
        metavar="default|random|NAME|FILE",
        help="trained or random weights, published ones by their name (see --list), or a file of "
        "your own: .pth, .pt, .safetensors (default)",
    )
    parser.add_argument(
        "--seed", type=natural, default=0, metavar="N", help="of initialisation and training (0)"
    )
    parser.add_argument(
        "--image-size", type=positive, metavar="N", help="height and width of the input, in pixels"
    )
    parser.add_argument("--opset", type=positive, metavar="N", help="of ONNX (default: 20)")
    parser.add_argument(
        "--dynamic-size", action="store_true", help="leave height and width of the input open"
    )
    parser.add_argument(
        "--embed-preprocessing",
        action="store_true",
        help="let the graph take uint8 pixels and normalise them itself",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="of weights and of the values between layers; inputs and outputs stay fp32 (fp32)",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FOLDER",
        help="pictures to calibrate int8 with; every third one is held out and compared on",
    )
    parser.add_argument(
        "--min-agreement",
        type=share,
        metavar="SHARE",
        help="of pictures that fp16 or int8 must classify as fp32 does, or no file (default: 0.99)",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="export every architecture into the folder -o (default: models)",
    )
    parser.add_argument(
        "--list", action="store_true", help="list the architectures and their weights"
    )


def run(arguments: argparse.Namespace) -> int:
    """Export one architecture or all of them, or list them.

    Raises:
        UsageError: no name, or one that is not known.
        CommandError: the export failed; no file is left behind.
    """
    if arguments.list:
        _print_architectures()
        return 0
    if arguments.all:
        return _export_all(arguments)
    if arguments.name is None:
        raise UsageError("which architecture? `convlens export --list` shows them")
    _export_one(arguments)
    return 0


def _export_one(arguments: argparse.Namespace) -> None:
    output = arguments.output or Path(f"{arguments.name.rpartition(':')[2]}.onnx")
    require_folder(output)
    # Importing torch takes seconds, which `--help` need not wait for.
    from convlens.export import export_model

    precision = _precision_options(arguments)
    with exporting(), reported_progress() as report:
        result = export_model(
            arguments.name,
            output,
            weights=arguments.weights,
            seed=arguments.seed,
            image_size=arguments.image_size,
            options=_graph_options(arguments),
            precision=replace(precision, progress=partial(report, "layer by layer")),
            progress=partial(report, "training"),
        )
    _print_result(result)


def _export_all(arguments: argparse.Namespace) -> int:
    from convlens.export import ARCHITECTURES
    from convlens.export.zoo import ZooRequest, export_all

    if arguments.name is not None or arguments.image_size is not None:
        raise UsageError("--all takes neither a NAME nor an --image-size")
    _precision_options(arguments)
    if arguments.precision != "fp32":
        raise UsageError("--all writes fp32: another --precision is for one NAME at a time")
    if arguments.weights not in ("default", "random"):
        raise UsageError("--all takes --weights default or random: no file fits all")
    folder = arguments.output or Path("models")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"cannot make the folder {folder}: {error.strerror}") from error
    request = ZooRequest(folder, arguments.weights, arguments.seed, _graph_options(arguments))
    failed = 0
    with progress_bar() as bar:
        task = bar.add_task("", total=len(ARCHITECTURES))
        for outcome in export_all(
            ARCHITECTURES, request, lambda name: bar.update(task, description=name)
        ):
            bar.advance(task)
            bar.console.print(_outcome_line(outcome), highlight=False, soft_wrap=True)
            failed += outcome.failure is not None
    if failed:
        raise CommandError(f"{failed} of {len(ARCHITECTURES)} architectures failed")
    return 0


def _outcome_line(outcome: "Outcome") -> str:
    if outcome.failure is not None:
        return f"{outcome.name}: failed: {outcome.failure}"
    if outcome.measured is None:
        return f"{outcome.name}: there already"
    measured = outcome.measured
    return (
        f"{outcome.name}: {measured.result.file_bytes:,} bytes, {measured.seconds:.1f} s, at most "
        f"{measured.peak_bytes / 1e9:.1f} GB of memory, parity "
        f"{measured.result.parity.max_relative:.1e}"
    )


def _graph_options(arguments: argparse.Namespace) -> "GraphOptions":
    from convlens.export import DEFAULT_OPSET, GraphOptions

    return GraphOptions(
        opset=arguments.opset or DEFAULT_OPSET,
        dynamic_size=arguments.dynamic_size,
        embed_preprocessing=arguments.embed_preprocessing,
    )


def _precision_options(arguments: argparse.Namespace) -> "PrecisionOptions":
    from convlens.export import PrecisionOptions
    from convlens.export.precision import DEFAULT_MIN_AGREEMENT

    if arguments.calibration is not None and arguments.precision != "int8":
        raise UsageError("--calibration is for --precision int8")
    if arguments.min_agreement is not None and arguments.precision == "fp32":
        raise UsageError("--min-agreement is for --precision fp16 or int8")
    if arguments.calibration is not None and not arguments.calibration.is_dir():
        raise UsageError(f"there is no folder {arguments.calibration}")
    agreement = arguments.min_agreement
    return PrecisionOptions(
        precision=arguments.precision,
        calibration=arguments.calibration,
        min_agreement=DEFAULT_MIN_AGREEMENT if agreement is None else agreement,
    )


def _print_architectures() -> None:
    from convlens.export import ARCHITECTURES

    rows = [
        ("NAME", "FAMILY", "PARAMETERS", "MACS", "INPUT", "WEIGHTS, THE DEFAULT FIRST"),
        *(
            (
                architecture.name,
                architecture.family,
                f"{architecture.cost.parameters:,}",
                f"{architecture.cost.macs / 1e6:,.1f} M",
                by(architecture.input_shape),
                architecture.default_weights.summary,
            )
            for architecture in ARCHITECTURES.values()
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, family, parameters, macs, size, weights in rows:
        print(
            f"{name:<{widths[0]}}  {family:<{widths[1]}}  {parameters:>{widths[2]}}  "
            f"{macs:>{widths[3]}}  {size:<{widths[4]}}  {weights}"
        )
    print("`--weights random` and `--weights FILE.pth` work with each of them.")


def _print_result(result: "ExportResult") -> None:
    facts = [("weights", _describe(result.card.weights)), parity_fact(result.parity)]
    if result.agreement is not None:
        facts += _agreement_facts(result.card.precision, result.agreement)
    exported = f"{result.nodes} nodes of the {result.nodes_before} that PyTorch's exporter wrote"
    print_facts((*facts, ("graph", exported), written_fact(result)))


def _agreement_facts(precision: str, agreement: "Agreement") -> list[Fact]:
    return [
        (
            precision,
            f"the same class first as fp32 on {agreement.top1_agreement:.1%} of "
            f"{agreement.pictures} pictures ({agreement.source}); outputs at most "
            f"{agreement.max_relative:.1e} of their spread away; {agreement.bytes:,} bytes "
            f"instead of {agreement.fp32_bytes:,}; {agreement.speedup:.2f} times as fast",
        ),
        ("in fp32", ", ".join(_kept(agreement)) or "nothing"),
    ]


def _kept(agreement: "Agreement") -> Iterable[str]:
    """The nodes, and where int8 made them worth keeping, their shares of its error."""
    if not agreement.error_shares:
        return agreement.kept_fp32
    shares = zip(agreement.kept_fp32, agreement.error_shares, strict=True)
    return (f"{name} ({share:.0%} of the error)" for name, share in shares)


def _describe(weights: Mapping[str, Any]) -> str:
    if weights.get("origin") == "random":
        return f"random weights (seed {weights.get('seed')}): the predictions mean nothing"
    # An architecture of the user's own says what it likes.
    origin, accuracy = weights.get("origin", "unknown"), weights.get("accuracy", {})
    source = weights.get("dataset" if origin == "trained" else "source", "nothing is said of them")
    stated = "".join(f", {name.replace('_', ' ')} {value:.2%}" for name, value in accuracy.items())
    return f"{origin}: {source}{stated}"
