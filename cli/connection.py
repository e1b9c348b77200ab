"""How the commands reach a server: the address, TLS, the token."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

from convlens.cli.errors import CommandError, UsageError
from convlens.client import DEFAULT_ADDRESS, ClientError, Tls
from convlens.client.connection import Connection

TOKEN_VARIABLE = "CONVLENS_TOKEN"  # noqa: S105 - a name, not a token


def add_connection_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments; a token never stands on the command line, where others see it."""
    parser.add_argument(
        "--address",
        default=DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help="of the server (default: %(default)s)",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"holds the token that opens the server (default: the variable {TOKEN_VARIABLE})",
    )
    parser.add_argument("--tls", action="store_true", help="encrypt; trust what the system trusts")
    parser.add_argument(
        "--tls-ca", type=Path, metavar="FILE", help="encrypt; trust who signed with this, PEM"
    )
    parser.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="encrypt, and show this certificate, PEM"
    )
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="of the certificate, PEM")


def connection(arguments: argparse.Namespace) -> Connection:
    """What the arguments and the environment ask for.

    Raises:
        UsageError: there is a certificate without a key, a key without a certificate, or no
            address.
        CommandError: the token's file cannot be read, or it is no token.
    """
    if (arguments.tls_cert is None) != (arguments.tls_key is None):
        raise UsageError("TLS needs both --tls-cert and --tls-key")
    files = (arguments.tls_ca, arguments.tls_cert, arguments.tls_key)
    tls = Tls(*files) if arguments.tls or any(files) else None
    try:
        way = Connection(arguments.address, tls)
    except ClientError as error:
        raise UsageError(f"--address: {error}") from error
    token = _token(arguments.token_file)
    try:
        return replace(way, token=token)
    except ClientError as error:
        raise CommandError(f"{arguments.token_file or TOKEN_VARIABLE}: {error}") from error


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE)
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise CommandError(f"--token-file {file}: {reason}") from error
