"""`convlens classify`: send pictures to a server and print their labels."""

import argparse
import asyncio
import dataclasses
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from convlens.cli.arguments import positive, seconds
from convlens.cli.errors import CommandError
from convlens.client import DEFAULT_ADDRESS, AsyncClient, Classification, ClientError, Tls

IN_FLIGHT = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="a JPEG, PNG, WebP, GIF, BMP or TIFF file"
    )
    parser.add_argument(
        "--address",
        default=DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help="of the server (default: %(default)s)",
    )
    parser.add_argument(
        "--model", default="", metavar="NAME", help="default: the server's only or default one"
    )
    parser.add_argument(
        "--top", type=positive, default=5, metavar="K", help="predictions a picture (default: 5)"
    )
    parser.add_argument(
        "--timeout", type=seconds, default=30.0, metavar="SECONDS", help="(default: %(default)g)"
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="holds the token that opens the server"
    )
    parser.add_argument("--tls", action="store_true", help="encrypt; trust what the system trusts")
    parser.add_argument(
        "--tls-ca", type=Path, metavar="FILE", help="encrypt; trust who signed with this, PEM"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    """Classify every picture; those that fail are named and do not stop the others."""
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    failed = 0
    client = AsyncClient(
        arguments.address,
        timeout_seconds=arguments.timeout,
        tls=Tls(arguments.tls_ca) if arguments.tls or arguments.tls_ca else None,
        token=_token(arguments.token_file),
    )
    async with client:
        async for image, answer in _answers(client, arguments):
            if arguments.json:
                print(json.dumps(_json(image, answer), ensure_ascii=False), flush=True)
            elif isinstance(answer, Classification):
                print(_text(image, answer), flush=True)
            if isinstance(answer, ClientError):
                failed += 1
                print(f"convlens classify: {image}: {answer}", file=sys.stderr)
    if failed:
        raise CommandError(f"{failed} of {len(arguments.images)} pictures failed")
    return 0


def _token(file: Path | None) -> str | None:
    try:
        return None if file is None else file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise CommandError(f"--token-file {file}: {error.strerror}") from error


async def _answers(
    client: AsyncClient, arguments: argparse.Namespace
) -> AsyncIterator[tuple[str, Classification | ClientError]]:
    """Classify several pictures at a time and give the answers in the pictures' order."""
    places = asyncio.Semaphore(IN_FLIGHT)

    async def classify(image: str) -> Classification | ClientError:
        async with places:
            try:
                return await client.classify(image, model=arguments.model, top_k=arguments.top)
            except ClientError as error:
                return error

    tasks = [asyncio.create_task(classify(image)) for image in arguments.images]
    for image, task in zip(arguments.images, tasks, strict=True):
        yield image, await task


def _text(image: str, answer: Classification) -> str:
    warning = (
        "  (random weights: these labels mean nothing)" if answer.weights_origin == "random" else ""
    )
    rows = [f"{image}: {answer.model}{warning}"]
    rows += [
        f"  {entry.probability:7.2%}  {entry.label or f'class {entry.index}'}"
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
