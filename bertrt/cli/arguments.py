"""Command-line arguments that several commands share."""

import argparse
from pathlib import Path
from typing import Any

from bertrt.cli.json_lines import load_json

__all__ = [
    "add_directory",
    "add_session_options",
    "add_task_options",
    "add_texts",
    "whole",
    "whole_or_auto",
]


def add_directory(parser: argparse.ArgumentParser) -> None:
    """Add the argument `directory`, an artifact."""
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="an artifact that 'bertrt export' made"
    )


def add_texts(parser: argparse.ArgumentParser, *, metavar: str, what: str) -> None:
    """Add the arguments `texts`; `what` is what the help calls them.

    A single "-" is standard input, which `main` has as no text at all.
    """
    parser.add_argument(
        "texts",
        metavar=metavar,
        nargs="*",
        help=f"the {what} (default, and for a single -: the lines of standard input)",
    )


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """Add the argument `options`: pairs of a name and a value, which the task takes."""
    parser.add_argument(
        "-o",
        "--option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        dest="options",
        type=_option,
        help="an option of the task, such as top_k=3 or candidate_labels=sports,politics; VALUE "
        "is JSON, or else a string; may be repeated",
    )


def add_session_options(parser: argparse.ArgumentParser) -> None:
    """Add the options `threads`, `max_batch_tokens` and `allow_spinning` of `bertrt.load`."""
    parser.add_argument(
        "--threads",
        metavar="N",
        type=whole_or_auto,
        default="auto",
        help="the number of threads, or 'auto' for the CPUs that this process may use "
        "(default: auto)",
    )
    parser.add_argument(
        "--max-batch-tokens",
        metavar="N",
        type=whole_or_auto,
        default="auto",
        help="the maximum number of padded tokens in a batch, or 'auto' for one that suits the "
        "CPU's caches (default: auto)",
    )
    parser.add_argument(
        "--allow-spinning",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether idle threads spin briefly before they sleep; --no-allow-spinning leaves more "
        "CPU time to other processes (default: spin)",
    )


def whole(text: str) -> int:
    """Parse a whole number of at least 1, as a `type` of argparse."""
    if text.isascii() and text.isdigit() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")


def whole_or_auto(text: str) -> int | str:
    """Parse "auto" or a whole number of at least 1, as a `type` of argparse."""
    if text == "auto":
        return text
    if text.isascii() and text.isdigit() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither 'auto' nor a whole number of at least 1")


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, load_json(value)
    except ValueError:
        return name, value
