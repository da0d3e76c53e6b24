"""The report of a run: `python benchmarks/report.py RESULTS --markdown --plots DIR`.

Reads the results file and writes Markdown tables to standard output and PNG plots into a folder.
Nothing is measured here.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from plots import draw
from results import of_run, read
from tables import markdown

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="report.py", description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="the file that run.py added its rows to")
    parser.add_argument("--run", help="which run; the newest by default")
    parser.add_argument("--against", help="ratios to this contender, else to eager PyTorch")
    parser.add_argument("--markdown", action="store_true", help="print the tables")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw the plots into DIR")
    options = parser.parse_args(arguments)
    if not (options.markdown or options.plots):
        parser.error("nothing to do: give --markdown, --plots DIR, or both")
    try:
        rows = of_run(read(options.results), options.run)
        if options.markdown:
            print(markdown(rows, options.against), end="")
        if options.plots:
            for path in draw(rows, options.plots, options.against):
                print(path, file=sys.stderr)
    except (OSError, ValueError, ImportError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
