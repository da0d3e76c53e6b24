"""Arguments that several commands share."""

import argparse
from pathlib import Path

__all__ = ["add_directory", "add_running"]


def add_directory(parser: argparse.ArgumentParser) -> None:
    """Declare the artifact's directory, `directory`."""
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="an artifact, made by 'bertrt export'"
    )


def add_running(parser: argparse.ArgumentParser) -> None:
    """Declare how sessions run: `threads`, `allow_spinning` and `max_batch_tokens`."""
    parser.add_argument(
        "--threads",
        metavar="N",
        type=_whole_or_auto,
        default="auto",
        help="number of threads, or 'auto' for the CPUs that this process may use (the default)",
    )
    parser.add_argument(
        "--max-batch-tokens",
        metavar="N",
        type=_whole_or_auto,
        default="auto",
        help="most padded tokens of a batch, or 'auto' for what suits the caches (the default)",
    )
    parser.add_argument(
        "--allow-spinning",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let idle threads spin for a moment before they sleep (the default); "
        "--no-allow-spinning is kinder to a machine that others use too",
    )


def _whole_or_auto(text: str) -> int | str:
    if text == "auto":
        return text
    if text.isascii() and text.isdigit() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither 'auto' nor a whole number of at least 1")
