"""The command line: one module for each command. `main` parses arguments and reports errors.

Modules of this package import large packages only when their command runs, so that `--help` is
fast.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from bertrt._version import __version__
from bertrt.cli import (
    batch,
    bench,
    doctor,
    embed,
    export,
    export_triton,
    inspect,
    rank,
    run,
    serve,
)
from bertrt.cli.formatting import escape_control
from bertrt.errors import BertrtError

__all__ = ["main"]

COMMANDS = (export, run, embed, batch, rank, serve, inspect, bench, doctor, export_triton)
# The exit statuses of processes that SIGINT and SIGPIPE end.
_INTERRUPTED, _BROKEN_PIPE = 130, 141
_EPILOG = """\
exit status:
  0  success
  1  failure; one line on standard error says why
  2  invalid arguments
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; `argv` are the process's arguments when None.

    All errors become exit statuses here. Raises SystemExit for --help, --version and invalid
    arguments, as argparse does, and for SIGTERM while a file is written.
    """
    _use_utf8()
    arguments = _parse(argv)
    try:
        status: int = arguments.run(arguments)
    except (Exception, KeyboardInterrupt) as error:
        status = _report(error)
    try:
        print(end="", flush=True)
    except OSError as error:
        # Python flushes again at exit, and would print another error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or _report(error)
    return status


def _report(error: BaseException) -> int:
    """Print an error in one line, unless it is an interrupt or a closed pipe; return its status."""
    if isinstance(error, KeyboardInterrupt):
        return _INTERRUPTED
    if isinstance(error, BrokenPipeError):  # the reader has closed the pipe
        return _BROKEN_PIPE
    message = str(error) or type(error).__name__
    if not isinstance(error, (BertrtError, OSError, MemoryError)):
        if os.environ.get("BERTRT_TRACEBACK"):
            traceback.print_exception(error)
        message = (
            f"this is a bug in bertrt, {type(error).__name__}: {error} "
            "(set BERTRT_TRACEBACK=1 for a traceback)"
        )
    print("bertrt: error:", escape_control(" ".join(message.split())), file=sys.stderr)
    return 1


def _use_utf8() -> None:
    """Write UTF-8 in any locale, and escape what cannot be encoded, so that JSON stays complete."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments; texts may come before and after options.

    argparse takes all positional arguments at the first place where they occur, so that it does
    not recognize TEXT in `run DIR --json TEXT`.
    """
    parser = _build_parser()
    arguments, rest = parser.parse_known_args(argv)
    end = rest.index("--") if "--" in rest else len(rest)
    options = [argument for argument in rest[:end] if argument.startswith("-") and argument != "-"]
    if rest and (options or not hasattr(arguments, "texts")):
        hint = _task_option(options[0]) if options and hasattr(arguments, "options") else ""
        parser.error(f"unrecognized arguments: {' '.join(options or rest)}{hint}")
    if rest:
        arguments.texts += rest[:end] + rest[end + 1 :]
    if getattr(arguments, "texts", None) == ["-"]:
        arguments.texts = []
    return arguments


def _task_option(argument: str) -> str:
    """Say how an option of a task is given, for one that was given like the command's own."""
    name, _, value = argument.lstrip("-").partition("=")
    spelled = f"{name.replace('-', '_')}={value or 'VALUE'}"
    return f" (an option of the task is given as -o {spelled})"


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bertrt",
        description="Export BERT checkpoints to ONNX, and answer texts with them in milliseconds.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bertrt {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in COMMANDS:
        command = commands.add_parser(
            module.__name__.rpartition(".")[2].replace("_", "-"),
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.configure(command)
        command.add_argument("--json", action="store_true", help=module.JSON_HELP)
        command.set_defaults(run=module.run)
    return parser
