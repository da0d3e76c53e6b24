"""`bertrt bench`: latency and throughput of one artifact on this machine."""

import argparse
import json
import math
import re

from bertrt.cli.arguments import add_directory, add_running
from bertrt.progress import progress_bar

__all__ = ["DESCRIPTION", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "measure an artifact's latency and throughput here"
DESCRIPTION = """\
Measure an artifact's graph on random token ids: latency and throughput at several shapes.

The shapes take turns, a run each, so that a slow moment of the machine falls on all of them.
Latency is the median of the runs, with the 20th and 80th percentile. Tokenizing is not in it."""
JSON_HELP = "print one JSON document"

SHAPES = ((1, 8), (1, 32), (1, 128), (8, 128))


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_directory(parser)
    parser.add_argument(
        "--shapes",
        metavar="BxS,…",
        type=_shapes,
        help="texts at a time x tokens of each; "
        f"{','.join(f'{batch}x{sequence}' for batch, sequence in SHAPES)} when left out",
    )
    parser.add_argument(
        "--seconds",
        metavar="T",
        type=_seconds,
        default=5.0,
        help="how long to measure, after warming up (5); each shape is run three times at least",
    )
    add_running(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print a table."""
    from bertrt.cli.measure import measure, table

    with progress_bar() as report:
        report = measure(
            arguments.directory,
            shapes=arguments.shapes,
            default=SHAPES,
            seconds=arguments.seconds,
            threads=arguments.threads,
            allow_spinning=arguments.allow_spinning,
            max_batch_tokens=arguments.max_batch_tokens,
            report_progress=report,
        )
    if arguments.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print(*table(report), sep="\n")
    return 0


def _shapes(text: str) -> list[tuple[int, int]]:
    shapes = []
    for part in text.split(","):
        found = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", part.strip())
        if not found:
            raise argparse.ArgumentTypeError(f"{part!r} is no shape: write texts x tokens as 1x128")
        shapes.append((int(found[1]), int(found[2])))
    return list(dict.fromkeys(shapes))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds
