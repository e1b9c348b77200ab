"""`convlens tune`: measure the fastest way to run a model on this machine."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from convlens.cli.arguments import positive, some_seconds
from convlens.cli.errors import CommandError
from convlens.cli.output import write, write_text
from convlens.server.agreement import MIN_TOP1_AGREEMENT
from convlens.server.configuration import configure
from convlens.server.errors import ServerError
from convlens.server.findings import Approximation, Row, Tuning
from convlens.server.model import REDUCED_TOLERANCE
from convlens.server.plan import Machine, Plan
from convlens.server.precision import answering_precision
from convlens.server.processors import processor_count
from convlens.server.tuning import OnProgress, Tuner


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = (
        "What is found is written beside the file as NAME.tuned.json; `convlens serve` uses it, "
        "and says so. A faster way counts only if it puts the same class first as fp32 on "
        f"{MIN_TOP1_AGREEMENT:.0%} of the inputs, and no output is further away than "
        f"{REDUCED_TOLERANCE:g} of their spread."
    )
    parser.add_argument("file", type=Path, metavar="FILE.onnx", help="the model, in fp32")
    parser.add_argument(
        "--budget",
        type=_budget,
        default=60.0,
        metavar="SECONDS",
        help="how long it may take, as 60 or 60s (default: 60)",
    )
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="to compare answers on (default: noise)"
    )
    parser.add_argument(
        "--also",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.onnx",
        help="the same network in fewer bits, which answers in its place where it is faster and "
        "agrees; may be repeated",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="to spread runs over (default: as many as there are processors)",
    )
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Measure, write the findings, print the table."""
    machine = Machine(configure({}, None).settings.cache_dir)
    processors = arguments.threads or processor_count()
    files = [arguments.file, *arguments.also]
    try:
        with _bar() as progress:
            tuner = Tuner(files, processors, machine, arguments.budget, progress)
            tuning = tuner.tune(arguments.pictures)
    except ServerError as error:
        raise CommandError(str(error)) from error
    if arguments.json:
        write(json.dumps(_json(tuning), indent=2) + "\n", None)
    else:
        _print(tuning)
    return 0


@contextmanager
def _bar() -> Iterator[OnProgress]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("tuning", total=1.0)
        yield lambda share, text: bar.update(task, completed=share, description=text)


def _print(tuning: Tuning) -> None:
    write_text(_table(tuning), None)
    peaks = ", ".join(f"{name} {peak / 1e9:,.0f} GFLOP/s" for name, peak in tuning.peaks.items())
    lines = [f"agreement measured on {tuning.trial}; peak, by one large product: {peaks}"]
    lines += [
        f"out: {it.file.name}, {_way(it.plan, answering_precision(it.file, it.plan))}: {it.reason}"
        for it in tuning.refusals
    ]
    for path, tuned in tuning.tuned.items():
        own = path.with_name(path.name.removesuffix(".tuned.json") + ".onnx")
        for goal, plan in tuned.plans.items():
            twin = tuned.twins.get(goal)
            file = Path(os.path.normpath(path.parent / twin.path)) if twin else own
            way = plan.described(answering_precision(file, plan))
            lines.append(f"{path}: {goal}: {f'{file} on ' if twin else ''}{way}")
    if tuning.approximation is not None:
        lines.append(_described(tuning.approximation))
    print("\n".join(lines))


def _described(it: Approximation) -> str:
    return (
        f"approximate decoding: the same class on {it.agreement.top1:.1%}, up to "
        f"{it.agreement.deviation:.2g} of the spread away, {it.exact_per_second:,.1f} -> "
        f"{it.approximate_per_second:,.1f} pictures/s: convlens serve --approximate-decoding"
    )


def _table(tuning: Tuning) -> Table:
    table = Table(box=None)
    table.add_column("file")
    table.add_column("way")
    for name in ("batch", "images/s", "with decoding", "ms a batch", "processor ms", "of peak"):
        table.add_column(name, justify="right")
    for name in ("same class", "deviation", "rounds"):
        table.add_column(name, justify="right")
    for row in tuning.rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> tuple[str, ...]:
    with_decoding, peak = row.pictures_per_second, row.fraction_of_peak
    return (
        row.file.name,
        _way(row.plan, row.precision),
        str(row.plan.max_batch_size),
        f"{row.images_per_second:,.1f}",
        "-" if with_decoding is None else f"{with_decoding:,.1f}",
        f"{row.batch_seconds * 1e3:,.2f}",
        f"{row.processor_seconds * 1e3:,.3f}",
        "-" if peak is None else f"{peak:.0%}",
        f"{row.agreement.top1:.1%}",
        f"{row.agreement.deviation:.1e}",
        str(row.rounds),
    )


def _way(plan: Plan, precision: str) -> str:
    elastic = "+" if plan.elastic else ""
    return f"{plan.provider} {precision} {plan.instances}x{plan.threads}{elastic}"


def _json(tuning: Tuning) -> dict[str, Any]:
    value = asdict(tuning)
    for entry in (*value["rows"], *value["refusals"]):
        entry["file"] = str(entry["file"])
    value["tuned"] = {str(path): findings for path, findings in value["tuned"].items()}
    return {"schema": "convlens.tuning/1", **value}


def _budget(text: str) -> float:
    return some_seconds(text.removesuffix("s"))
