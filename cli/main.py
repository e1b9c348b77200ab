"""The entry points `convlens` and `analyze`: find the command, run it, turn failures into lines.

Each command is a module of this package with `add_arguments(parser)` and `run(arguments) -> int`.
It is imported only when it is asked for, so that `--help` answers at once.
"""

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence

from convlens.cli.errors import CommandError
from convlens.cli.huge_pages import start_again_with_huge_pages

# command -> (what the list of commands says of it, the extras of which any one is enough)
COMMANDS = {
    "export": ("turn a PyTorch network into a self-describing ONNX file", ("export",)),
    "train": ("teach a network pictures of your own, and export it", ("export",)),
    "analyze": ("report every layer of an ONNX file", ()),
    "compare": ("show what differs between two ONNX files, layer by layer", ()),
    "serve": ("serve a folder of ONNX files over gRPC", ("serve", "serve-gpu")),
    "tune": ("measure the fastest way to run a model here", ("serve", "serve-gpu")),
    "classify": ("send pictures to a server and print their labels", ("client",)),
    "bench": ("put a server under load and measure it", ("client",)),
    "demo": ("serve the bundled model and classify the bundled pictures", ("serve", "serve-gpu")),
}

RUN_MODELS = ("serve", "tune")  # and are fast at it

# Errors of a disk below the output, of which a quota is one.
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def main(argv: Sequence[str] | None = None) -> int:
    """Run `convlens COMMAND ...`.

    Returns:
        0 done; 1 the work failed; 2 wrong usage.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None and words and words[0] in RUN_MODELS:
        start_again_with_huge_pages()
    if words and words[0] in COMMANDS:
        return _run(f"convlens {words[0]}", words[0], words[1:])
    parser = argparse.ArgumentParser(
        prog="convlens",
        description="Self-describing ONNX image classifiers: export them, know them, serve them.",
        epilog="`convlens COMMAND --help` describes a command.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (summary, _) in COMMANDS.items():
        commands.add_parser(name, help=summary)
    parser.parse_args(words)
    return 2


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that takes as long as all other imports."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"convlens {version('convlens')}")
        parser.exit()


def analyze() -> int:
    """Run `analyze FILE.onnx ...`, the same as `convlens analyze`."""
    return _run("analyze", "analyze", sys.argv[1:])


def _run(prog: str, name: str, words: Sequence[str]) -> int:
    summary, extras = COMMANDS[name]
    if sys.stdout is None:
        # Whoever closed it wants no output; and no file that is opened later becomes it.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
    if name != "serve":
        # gRPC complains on stderr, as of a poller that the end cut short; errors reach us anyway.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read when it is imported
    try:
        command = importlib.import_module(f"convlens.cli.{name}")
        parser = argparse.ArgumentParser(
            prog=prog, description=summary[0].upper() + summary[1:] + "."
        )
        command.add_arguments(parser)
        exit_code = int(command.run(parser.parse_args(words)))
        sys.stdout.flush()
        return exit_code
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("convlens"):
            raise
        wanted = " or ".join(f"pip install 'convlens[{extra}]'" for extra in extras)
        return _fail(prog, f"the package {error.name!r} is not installed: {wanted}", 1)
    except CommandError as error:
        return _fail(prog, str(error), error.exit_code)
    except BrokenPipeError:
        _drop_output()  # the reader (head, less) has gone
        return 1
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        _drop_output()
        return _fail(prog, f"the output cannot be written: {error.strerror}", 1)
    except KeyboardInterrupt:
        return _fail(prog, "interrupted", 130)


def _drop_output() -> None:
    """Keep the interpreter from complaining at exit of what cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(prog: str, text: str, exit_code: int) -> int:
    """Say why, and let no name of a file, a layer or a server give orders to the terminal."""
    from convlens.analysis.text_layout import printable  # it takes a while, and is rarely needed

    print(f"{prog}: {printable(text)}", file=sys.stderr)
    return exit_code
