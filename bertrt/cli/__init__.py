"""The command line: one module a command, and here what they share at the edge.

Modules of this package import nothing heavy until their command runs, so that `--help` is quick.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from bertrt._version import __version__
from bertrt.cli import bench, doctor, export, inspect, run
from bertrt.cli.table import printable
from bertrt.errors import BertrtError

__all__ = ["main"]

COMMANDS = (export, run, inspect, bench, doctor)
# What a shell reports of a process that such a signal ended.
_INTERRUPTED, _BROKEN_PIPE = 130, 141
_EPILOG = """\
exit status:
  0  done
  1  failed; one line on standard error says why
  2  the command line is wrong
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; `argv` is the process's own when None.

    This is the one place where errors become statuses. Raises SystemExit for --help, --version
    and wrong usage, as argparse does, and for SIGTERM during an export.
    """
    _use_utf8()
    arguments = _parse(argv)
    try:
        status: int = arguments.run(arguments)
    except (Exception, KeyboardInterrupt) as error:
        status = _status_of(error)
    try:
        print(end="", flush=True)
    except OSError as error:
        # Python flushes again at exit, and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or _status_of(error)
    return status


def _status_of(error: BaseException) -> int:
    """The exit status that an error means; one line says what it was, if anyone has to know."""
    if isinstance(error, KeyboardInterrupt):
        return _INTERRUPTED
    if isinstance(error, BrokenPipeError):  # the reader has seen enough
        return _BROKEN_PIPE
    message = str(error) or type(error).__name__
    if not isinstance(error, (BertrtError, OSError, MemoryError)):
        if os.environ.get("BERTRT_TRACEBACK"):
            traceback.print_exception(error)
        message = (
            f"this is a bug in bertrt, {type(error).__name__}: {error} "
            "(BERTRT_TRACEBACK=1 shows where)"
        )
    print("bertrt: error:", printable(" ".join(message.split())), file=sys.stderr)
    return 1


def _use_utf8() -> None:
    """Texts come and go as UTF-8, whatever the locale: half a JSON document is no use."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments; texts may stand on both sides of an option.

    argparse takes positional arguments in one go, so that of `run DIR --json TEXT` it leaves TEXT
    over.
    """
    parser = _parser()
    arguments, left = parser.parse_known_args(argv)
    end = left.index("--") if "--" in left else len(left)
    options = [one for one in left[:end] if one.startswith("-")]
    if left and (options or not hasattr(arguments, "texts")):
        parser.error(f"unrecognized arguments: {' '.join(options or left)}")
    if left:
        arguments.texts += left[:end] + left[end + 1 :]
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bertrt",
        description="BERT checkpoints to answers in milliseconds.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bertrt {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in COMMANDS:
        command = commands.add_parser(
            module.__name__.rpartition(".")[2],
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.configure(command)
        command.add_argument("--json", action="store_true", help=module.JSON_HELP)
        command.set_defaults(run=module.run)
    return parser
