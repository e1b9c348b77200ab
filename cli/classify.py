"""`convlens classify`: send pictures to a server and print their labels."""

import argparse
import asyncio
import dataclasses
import io
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeRemainingColumn

from convlens.analysis.text_layout import printable
from convlens.cli.arguments import natural, positive, seconds, utf8
from convlens.cli.connection import add_connection_arguments, connection
from convlens.cli.errors import CommandError, UsageError
from convlens.cli.picture_files import (
    STDIN,
    PipedPicture,
    listed_files,
    picture,
    picture_files,
    stdin_picture,
)
from convlens.client import (
    DEFAULT_CONCURRENCY,
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT_SECONDS,
    AccessError,
    AsyncClient,
    Classification,
    ClientError,
    NotFoundError,
    Outcome,
    UnavailableError,
)

FEWEST_FOR_A_BAR = 20
# Failures that the next picture would meet as well, as long as none has been answered.
HOPELESS = (AccessError, NotFoundError, UnavailableError)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="a JPEG, PNG, WebP, GIF, BMP or TIFF file; a folder of them; a pattern, quoted, "
        "where ** stands for any folders; - for one picture on standard input",
    )
    parser.add_argument(
        "--from-file", metavar="FILE", help="paths of more pictures, one a line; - for stdin"
    )
    parser.add_argument(
        "--model",
        type=utf8,
        default="",
        metavar="NAME[@VERSION]",
        help="default: the server's only or default one, its latest version",
    )
    parser.add_argument(
        "--top", type=positive, default=5, metavar="K", help="predictions a picture (default: 5)"
    )
    parser.add_argument(
        "--concurrency",
        type=positive,
        default=DEFAULT_CONCURRENCY,
        metavar="N",
        help="pictures in flight at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help="for one picture, its retries included (default: %(default)g)",
    )
    parser.add_argument(
        "--retries",
        type=natural,
        default=DEFAULT_RETRIES,
        metavar="N",
        help="of one picture while the server is overloaded or away (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    add_connection_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Classify every picture; those that fail are named and do not stop the others."""
    if not arguments.images and arguments.from_file is None:
        raise UsageError("no picture: give IMAGE or --from-file")
    if [*arguments.images, arguments.from_file].count(STDIN) > 1:
        raise UsageError("standard input can be read once only")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names of files that are not text
    try:
        return asyncio.run(_run(arguments))
    except ClientError as error:
        raise CommandError(str(error)) from error


async def _run(arguments: argparse.Namespace) -> int:
    done = failed = 0
    model, _, version = arguments.model.partition("@")
    way = connection(arguments)
    client = AsyncClient(
        way.address,
        timeout_seconds=arguments.timeout,
        retries=arguments.retries,
        tls=way.tls,
        token=way.token,
    )
    async with client:
        answers = client.classify_many(
            _pictures(arguments),
            model=model,
            version=version,
            top_k=arguments.top,
            concurrency=arguments.concurrency,
        )
        async with aclosing(answers) as outcomes:
            with _progress_bar(arguments) as (bar, task):
                async for outcome in outcomes:
                    done += 1
                    failed += outcome.error is not None
                    hopeless = done == failed and isinstance(outcome.error, HOPELESS)
                    if arguments.json or not hopeless:
                        _print(outcome, as_json=arguments.json)
                    bar.update(task, advance=1)
                    if hopeless:
                        raise CommandError(str(outcome.error))
    if failed:
        raise CommandError(f"{failed} of {done} pictures failed")
    return 0


async def _pictures(arguments: argparse.Namespace) -> AsyncIterator[str | bytes]:
    """The pictures, read as they are asked for."""
    for path in picture_files(arguments.images):
        yield await (stdin_picture() if path == STDIN else picture(path))
    if arguments.from_file is not None:
        async for path in listed_files(arguments.from_file):
            yield await picture(path)


@contextmanager
def _progress_bar(arguments: argparse.Namespace) -> Iterator[tuple[Progress, TaskID]]:
    """A bar on stderr where that is a terminal and there is much to do; hidden anywhere else."""
    console = Console(stderr=True)
    total, hidden = None, not console.is_terminal
    if not hidden and arguments.from_file is None:
        total = sum(1 for _ in picture_files(arguments.images))
        hidden = total < FEWEST_FOR_A_BAR
    columns = (*Progress.get_default_columns()[1:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, disable=hidden, redirect_stdout=sys.stdout.isatty()
    ) as bar:
        yield bar, bar.add_task("", total=total)


def _print(outcome: Outcome, *, as_json: bool) -> None:
    picture = outcome.picture
    image = picture.name if isinstance(picture, PipedPicture) else str(picture)
    if as_json:
        # An encoding that lacks a character would make of it what is no JSON.
        ascii_only = sys.stdout.encoding.lower() != "utf-8"
        print(json.dumps(_json(image, outcome.answer), ensure_ascii=ascii_only), flush=True)
    elif outcome.error is None:
        print(_text(image, outcome.classification), flush=True)
    else:
        print(printable(f"convlens classify: {image}: {outcome.error}"), file=sys.stderr)


def _text(image: str, answer: Classification) -> str:
    warning = (
        "  (random weights: these labels mean nothing)" if answer.weights_origin == "random" else ""
    )
    rows = [printable(f"{image}: {answer.model}{warning}")]
    rows += [
        f"  {entry.probability:7.2%}  {printable(entry.label) or f'class {entry.index}'}"
        for entry in answer.predictions
    ]
    return "\n".join(rows)


def _json(image: str, answer: Classification | ClientError) -> dict[str, Any]:
    if isinstance(answer, ClientError):
        return {"image": image, "error": {"code": answer.code, "message": str(answer)}}
    return {
        "image": image,
        "model": answer.model,
        "version": answer.version,
        "predictions": [dataclasses.asdict(entry) for entry in answer.predictions],
        "timing": dataclasses.asdict(answer.timing),
        "weights_origin": answer.weights_origin,
    }
