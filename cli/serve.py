"""`convlens serve`: run the server in the foreground."""

import argparse
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from convlens.cli.errors import CommandError, UsageError
from convlens.server.configuration import configure, flag_of
from convlens.server.errors import ConfigurationError, StartError
from convlens.server.logs import configure_logs
from convlens.server.ready import Ready
from convlens.server.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare a flag for each setting; those that are not given are left to the other sources."""
    parser.epilog = (
        "Each setting may also stand in the environment (CONVLENS_MAX_BATCH_SIZE=8) or in a TOML "
        "file (max_batch_size = 8); flags come first, then the environment, then the file."
    )
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="settings, one key each")
    parser.add_argument(
        "--print-config", action="store_true", help="print the effective settings and stop"
    )
    group: argparse._ArgumentGroup | argparse.ArgumentParser = parser
    for name, field in Settings.model_fields.items():
        if name in GROUPS:
            group = parser.add_argument_group(GROUPS[name])
        text = field.description or ""
        if field.default not in ("", 0, False, {}, None) and "default:" not in text:
            text += f" (default: {field.default})"
        options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": text}
        if field.annotation is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["metavar"] = (field.examples or [name.rpartition("_")[2].upper()])[0]
        if name in PAIRS:
            options |= {"action": "append", "type": PAIRS[name]}
        if get_origin(field.annotation) is Literal:
            options["metavar"] = "|".join(get_args(field.annotation))
        group.add_argument(flag_of(name), **options)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    given = vars(arguments)
    flags = {name: given[name] for name in Settings.model_fields if name in given}
    for name in PAIRS.keys() & flags.keys():
        flags[name] = dict(flags[name])
    try:
        configuration = configure(flags, arguments.config)
    except ConfigurationError as error:
        raise UsageError(str(error)) from error
    if arguments.print_config:
        print(configuration)
        return 0
    configure_logs(configuration.settings.log_format)
    try:
        _run_server(configuration.settings)
    except StartError as error:
        raise CommandError(str(error)) from error
    return 0


def _run_server(settings: Settings) -> None:
    # A supervisor answers no requests: it does without the runtime's 50 MB.
    if settings.workers > 1:
        from convlens.server.supervisor import run as run_workers

        run_workers(settings, _print_ready)
    else:
        from convlens.server.app import run as run_one

        run_one(settings, _print_ready)


def _print_ready(ready: Ready) -> None:
    for path, reason in ready.failed:
        print(f"not served: {path}: {reason}", flush=True)
    models = ", ".join(ready.models) or "nothing yet"
    providers = f" with {', '.join(ready.providers)}" if ready.providers else ""
    print(
        f"serving {models}{providers} on {ready.address}, metrics on {ready.metrics_url}",
        flush=True,
    )


def _alias(text: str) -> tuple[str, str]:
    alias, _, model = text.partition("=")
    if not alias or not model:
        raise argparse.ArgumentTypeError(f"must be ALIAS=NAME or ALIAS=NAME@VERSION, is {text!r}")
    return alias, model


def _candidate(text: str) -> tuple[str, str]:
    name, _, version = text.partition("@")
    if not name or not version.isdecimal():
        raise argparse.ArgumentTypeError(f"must be NAME@VERSION, is {text!r}")
    return name, version


# The settings that are given a pair at a time.
PAIRS = {"aliases": _alias, "candidates": _candidate}

# The headings of the help, by the first setting of each.
GROUPS = {
    "models": "models",
    "candidates": "versions on trial",
    "host": "where it listens",
    "provider": "what runs the models",
    "max_batch_size": "batches, queues and limits",
    "workers": "processes and threads",
    "tls_cert": "who may ask",
    "log_format": "logs and stopping",
}
