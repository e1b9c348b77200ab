"""`convlens serve`: run the server in the foreground."""

import argparse
import logging
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args

from convlens.cli.arguments import natural, port, positive, seconds
from convlens.cli.errors import CommandError
from convlens.server.app import Ready
from convlens.server.app import run as run_server
from convlens.server.errors import StartError
from convlens.server.settings import Provider, Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments; each is named after the field of `Settings` that it sets."""
    default = Settings()
    add = parser.add_argument
    add(
        "--models",
        type=Path,
        default=default.models,
        metavar="DIR",
        help="folder of NAME.onnx or NAME/VERSION/model.onnx (default: the bundled model)",
    )
    add("--host", default=default.host, help="address to listen on (default: %(default)s)")
    add("--port", type=port, default=default.port, help="0: a free one (default: %(default)s)")
    add(
        "--metrics-port",
        type=port,
        default=default.metrics_port,
        help="of /metrics, /livez and /readyz; 0: a free one (default: %(default)s)",
    )
    add(
        "--provider",
        choices=get_args(Provider),
        default=default.provider,
        help="auto: CUDA where it works, else the CPU (default: %(default)s)",
    )
    add("--watch", action="store_true", help="load and unload as files come, change and go")
    add(
        "--alias",
        type=_alias,
        action="append",
        default=[],
        dest="aliases",
        metavar="ALIAS=NAME[@VERSION]",
        help="another name for a model; may be repeated",
    )
    add("--default-model", default="", metavar="NAME", help="answers requests that name no model")
    for flag, unit, meaning in (
        ("max_batch_size", "PICTURES", "the most that share one inference"),
        ("queue_size", "PICTURES", "the most in flight for one model; more are refused"),
        ("stream_window", "PICTURES", "the most in flight for one stream"),
        ("max_message_bytes", "BYTES", "the largest request"),
        ("max_pixels", "PIXELS", "the largest picture, judged before it is decoded"),
        ("threads", "THREADS", "for decoding and for inference; 0: as many as processors"),
    ):
        add(
            "--" + flag.replace("_", "-"),
            type=natural if flag == "threads" else positive,
            default=getattr(default, flag),
            metavar=unit,
            help=f"{meaning} (default: %(default)s)",
        )
    add(
        "--grace",
        type=seconds,
        default=default.grace_seconds,
        dest="grace_seconds",
        metavar="SECONDS",
        help="for requests in flight to finish after SIGTERM (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    values = {field.name: getattr(arguments, field.name) for field in fields(Settings)}
    settings = Settings(**{**values, "aliases": dict(arguments.aliases)})
    try:
        run_server(settings, _print_ready)
    except StartError as error:
        raise CommandError(str(error)) from error
    return 0


def _print_ready(ready: Ready) -> None:
    for path, reason in ready.failed:
        print(f"not served: {path}: {reason}", flush=True)
    print(
        f"serving {', '.join(ready.models)} with {ready.provider} on {ready.address}, "
        f"metrics on {ready.metrics_url}",
        flush=True,
    )


def _alias(text: str) -> tuple[str, tuple[str, str]]:
    alias, equals, model = text.partition("=")
    name, _, version = model.partition("@")
    if not (alias and equals and name):
        raise argparse.ArgumentTypeError(f"must be ALIAS=NAME or ALIAS=NAME@VERSION, is {text!r}")
    return alias, (name, version)
