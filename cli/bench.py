"""`convlens bench`: put a server under load and print what came of it."""

import argparse
import datetime
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias, get_args

from rich.console import Console
from rich.table import Table

from convlens.cli.arguments import counts, positive, rates, seconds, some_seconds, utf8
from convlens.cli.connection import add_connection_arguments, connection
from convlens.cli.errors import CommandError
from convlens.cli.output import require_folder, write
from convlens.cli.picture_files import picture_files
from convlens.client import ClientError, PictureError
from convlens.client.load import Arrivals, ClosedLoop, Job, OpenLoop, check
from convlens.client.load_chart import Load, draw
from convlens.client.load_processes import measure_with
from convlens.client.load_processes import run as run_in_loop
from convlens.client.load_result import Tally
from convlens.client.load_target import Target, picture_target, tensor_target
from convlens.client.pictures import picture_bytes

Row: TypeAlias = tuple[ClosedLoop | OpenLoop, Tally]

DEFAULT_CONCURRENCY = (1, 8, 32)
MOST_PICTURE_BYTES = 256 * 2**20
# Above this share of a processor for each process, the generator is what is measured.
BUSY_CORES = 0.85
COLUMNS = ("load", "answers/s", "good/s", "p50", "p95", "p99", "max", "client", "errors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = (
        "The latency of an open loop counts from the moment when a request was meant to be sent, "
        "so that waiting is not hidden. The last column but one is the generator's own processor "
        "time for one request."
    )
    _add_requests(parser.add_argument_group("what is sent"))
    _add_loads(parser.add_argument_group("how it is sent"))
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the JSON as well")
    parser.add_argument(
        "--chart",
        type=Path,
        metavar="FILE.svg",
        help="draw latency over throughput, and where the time of a request goes",
    )
    add_connection_arguments(parser)


def _add_requests(what: argparse._ArgumentGroup) -> None:
    what.add_argument("--model", type=utf8, default="", metavar="NAME[@VERSION]")
    what.add_argument(
        "--pictures",
        nargs="+",
        metavar="FILE",
        help="files, folders, patterns (default: the bundled digits)",
    )
    what.add_argument(
        "--tensor",
        action="store_true",
        help="the model's own input instead, by the Open Inference Protocol",
    )


def _add_loads(how: argparse._ArgumentGroup) -> None:
    how.add_argument(
        "--concurrency",
        type=counts,
        metavar="N,N,...",
        help="closed loops: so many callers that wait for their answers (default: 1,8,32)",
    )
    how.add_argument(
        "--rate", type=rates, default=(), metavar="R,R,...", help="open loops: requests a second"
    )
    how.add_argument(
        "--arrivals",
        choices=get_args(Arrivals),
        default="poisson",
        help="of open loops (default: %(default)s)",
    )
    for name, default, kind, text in (
        ("--duration", 10.0, some_seconds, "of each measurement"),
        ("--warmup", 2.0, seconds, "before each measurement, not counted"),
        ("--deadline", 10.0, some_seconds, "an answer is good within it, and dropped after it"),
    ):
        how.add_argument(
            name,
            type=kind,
            default=default,
            metavar="SECONDS",
            help=f"{text} (default: {default:g})",
        )
    for name, text in (
        ("--connections", "of each process"),
        ("--processes", "that share the load"),
    ):
        how.add_argument(
            name, type=positive, default=1, metavar="N", help=f"{text} (default: %(default)s)"
        )


def run(arguments: argparse.Namespace) -> int:
    """Measure each load in turn; a server that answers nothing is a failure."""
    for path in (arguments.output, arguments.chart):
        if path is not None:
            require_folder(path)
    rows: list[Row] = []
    try:
        target = _target(arguments)
        run_in_loop(check(connection(arguments), target))
        try:
            for loop in _loops(arguments):
                with Console(stderr=True).status(_name(loop)):
                    job = _job(arguments, target, loop)
                    rows.append((loop, measure_with(arguments.processes, job)))
        finally:
            if rows:  # also where Ctrl-C ends a later load: the measurements took minutes
                _report(arguments, target, rows)
    except ClientError as error:
        raise CommandError(str(error)) from error
    if not any(tally.answers.count for _, tally in rows):
        raise CommandError("nothing was answered")
    return 0


def _report(arguments: argparse.Namespace, target: Target, rows: Sequence[Row]) -> None:
    """Print and write what was measured, what cannot fail first."""
    text = json.dumps(_json(target, rows), indent=2) + "\n"
    if arguments.json:
        write(text, None)
    else:
        _print(arguments, target, rows)
    if arguments.output:
        write(text, arguments.output)
    if arguments.chart:
        loads = [Load(_name(loop), tally.to_json()) for loop, tally in rows]
        write(draw(f"{target.what} to {arguments.address}", loads), arguments.chart)


def _target(arguments: argparse.Namespace) -> Target:
    model, _, version = arguments.model.partition("@")
    if arguments.tensor:
        return run_in_loop(tensor_target(connection(arguments), model, version))
    words = arguments.pictures or [str(files("convlens.server") / "bundled" / "digits")]
    paths = _some(list(picture_files(words)))
    return picture_target([_content(path) for path in paths], model, version)


def _some(paths: list[str]) -> list[str]:
    """All, or as many as are kept in memory, from the whole of a folder."""
    every = max(1, math.ceil(sum(map(_size, paths)) / MOST_PICTURE_BYTES))
    if every > 1:
        print(
            f"convlens bench: {len(paths):,} pictures, of which one in {every} is sent: "
            f"{MOST_PICTURE_BYTES >> 20} MiB of them are kept in memory",
            file=sys.stderr,
        )
    return paths[::every]


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):
        return 0  # reading it says why


def _content(path: str) -> bytes:
    try:
        return picture_bytes(path)
    except PictureError as error:
        raise CommandError(f"{path}: {error}") from error


def _loops(arguments: argparse.Namespace) -> Iterator[ClosedLoop | OpenLoop]:
    for concurrency in arguments.concurrency or (() if arguments.rate else DEFAULT_CONCURRENCY):
        yield ClosedLoop(concurrency)
    for rate in arguments.rate:
        yield OpenLoop(rate, arguments.arrivals)


def _job(arguments: argparse.Namespace, target: Target, loop: ClosedLoop | OpenLoop) -> Job:
    return Job(
        connection(arguments),
        target,
        loop,
        duration_seconds=arguments.duration,
        warmup_seconds=arguments.warmup,
        deadline_seconds=arguments.deadline,
        connections=arguments.connections,
    )


def _name(loop: ClosedLoop | OpenLoop) -> str:
    if isinstance(loop, ClosedLoop):
        return f"{loop.concurrency} in flight"
    return f"{loop.rate:g}/s {loop.arrivals}"


def _json(target: Target, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "schema": "convlens.bench/1",
        "command": shlex.join(["convlens", *sys.argv[1:]]),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "client": f"{platform.machine()}, {os.cpu_count()} processors, Python "
        f"{platform.python_version()}",
        "target": {"method": target.method, "requests": target.what},
        "loads": [_loop_json(loop) | tally.to_json() for loop, tally in rows],
    }


def _loop_json(loop: ClosedLoop | OpenLoop) -> dict[str, Any]:
    if isinstance(loop, ClosedLoop):
        return {"kind": "closed", "concurrency": loop.concurrency}
    return {"kind": "open", "rate": loop.rate, "arrivals": loop.arrivals}


def _print(
    arguments: argparse.Namespace,
    target: Target,
    rows: Sequence[Row],
) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(f"{target.what} to {arguments.address}, {arguments.duration:g} s each; ms")
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if 0 < number < len(COLUMNS) - 1 else "left")
    for loop, tally in rows:
        percentiles = (1e3 * tally.answers.percentile_seconds(percent) for percent in (50, 95, 99))
        table.add_row(
            _name(loop),
            f"{tally.answers_per_second:,.1f}",
            f"{tally.good_per_second:,.1f}",
            *(f"{value:,.2f}" for value in percentiles),
            f"{1e3 * tally.answers.longest_seconds:,.2f}",
            f"{tally.client_cpu_us:,.0f} us",
            ", ".join(f"{entry.count:,} {code}" for code, entry in tally.errors.items()),
        )
    console.print(table)
    for loop, tally in rows:
        if tally.client_cores > BUSY_CORES * arguments.processes:
            console.print(
                f"{_name(loop)}: the generator kept {tally.client_cores:.2f} processors busy and "
                "may be the limit itself: --processes"
            )
        if (late := 1e3 * tally.behind.percentile_seconds(99)) > 5.0:
            console.print(f"{_name(loop)}: one request in a hundred was sent {late:,.1f} ms late")
