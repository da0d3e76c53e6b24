"""Make tables, plots and documentation from benchmark results; nothing is measured.

`python -m benchmarks.report RESULTS --markdown --plots DIR` shows one run of a results file.
`python -m benchmarks.report --docs` writes the pages and plots of docs/benchmarks, the picture
docs/images/speed.png, and the table in README.md, from docs/benchmarks/results.jsonl.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    # Run as a file, Python has put this folder on sys.path, and not the one that contains it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.harness.results import of_run, read
from benchmarks.reporting.pages import Pages, update_readme
from benchmarks.reporting.plots import draw
from benchmarks.reporting.tables import markdown

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parents[1]
_DOCS = _ROOT / "docs" / "benchmarks"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="report.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "results",
        type=Path,
        nargs="?",
        default=_DOCS / "results.jsonl",
        help="file that run.py added rows to (default: docs/benchmarks/results.jsonl)",
    )
    parser.add_argument("--run", help="run to show (default: the newest)")
    parser.add_argument(
        "--against", help="contender that ratios are relative to (default: eager PyTorch)"
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables of a run")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw the plots of a run")
    parser.add_argument(
        "--docs", action="store_true", help="write docs/benchmarks and the table in README.md"
    )
    options = parser.parse_args(arguments)
    if not (options.markdown or options.plots or options.docs):
        parser.error("nothing to do: give --markdown, --plots DIR, or --docs")
    try:
        if options.docs:
            _write_docs(Pages(options.results))
        if options.markdown or options.plots:
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


def _write_docs(pages: Pages) -> None:
    for path in pages.write(_DOCS):
        print(path, file=sys.stderr)
    readme = _ROOT / "README.md"
    text = update_readme(readme.read_text(encoding="utf-8"), pages.readme_table())
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
