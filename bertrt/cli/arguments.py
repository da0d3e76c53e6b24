"""Arguments that several commands take, and how their values are read."""

import argparse
from pathlib import Path

__all__ = ["add_directory", "add_running"]


def add_directory(parser: argparse.ArgumentParser) -> None:
    """The artifact's directory, as `arguments.directory`."""
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="an artifact, made by 'bertrt export'"
    )


def add_running(parser: argparse.ArgumentParser) -> None:
    """How a session runs, as `arguments.threads` and `arguments.spinning`."""
    parser.add_argument(
        "--threads",
        metavar="N",
        type=_threads,
        default="auto",
        help="threads, or 'auto' for the CPUs that this process may use (the default)",
    )
    parser.add_argument(
        "--no-spinning",
        dest="spinning",
        action="store_false",
        help="let idle threads sleep at once, for a machine that others use too",
    )


def _threads(text: str) -> int | str:
    if text == "auto":
        return text
    if text.isascii() and text.isdigit() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither 'auto' nor a whole number of at least 1")
