"""`bertrt bench`: measure an artifact's latency and throughput on this machine."""

import argparse
import json
import math
import re

from bertrt.cli.arguments import add_directory, add_session_options
from bertrt.progress import progress_bar

__all__ = ["DESCRIPTION", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "measure an artifact's latency and throughput"
DESCRIPTION = """\
Measure the latency and throughput of an artifact's graph on random token ids of several shapes.

Shapes are run in turn, one run each, so that a slow moment of the machine affects all of them.
Latency is the median of all runs, with the 20th and 80th percentile. It excludes tokenization."""
JSON_HELP = "print the results as one JSON document"

SHAPES = ((1, 8), (1, 32), (1, 128), (8, 128))


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_directory(parser)
    parser.add_argument(
        "--shapes",
        metavar="BxS,…",
        type=_shapes,
        help="the shapes to measure, batch size x sequence length "
        f"(default: {','.join(f'{batch}x{sequence}' for batch, sequence in SHAPES)})",
    )
    parser.add_argument(
        "--seconds",
        metavar="T",
        type=_seconds,
        default=5.0,
        help="how long to measure after the warm-up; each shape runs at least three times "
        "(default: 5)",
    )
    add_session_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print a table or JSON."""
    from bertrt.cli.measure import format_report, measure

    with progress_bar() as draw:
        report = measure(
            arguments.directory,
            shapes=arguments.shapes,
            default_shapes=SHAPES,
            seconds=arguments.seconds,
            threads=arguments.threads,
            allow_spinning=arguments.allow_spinning,
            max_batch_tokens=arguments.max_batch_tokens,
            progress=draw,
        )
    if arguments.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print(*format_report(report), sep="\n")
    return 0


def _shapes(text: str) -> list[tuple[int, int]]:
    shapes = []
    for part in text.split(","):
        match = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", part.strip())
        if not match:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not a shape: give batch size x sequence length, such as 1x128"
            )
        shapes.append((int(match[1]), int(match[2])))
    return list(dict.fromkeys(shapes))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds
