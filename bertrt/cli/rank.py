"""`bertrt rank`: rank documents by a query with a cross-encoder."""

import argparse
import json
import sys
from collections.abc import Iterator
from io import BufferedIOBase
from typing import cast

from bertrt.cli.arguments import add_directory, add_session_options
from bertrt.cli.formatting import align_columns, escape_control
from bertrt.cli.read_lines import read_line_groups
from bertrt.errors import InputError
from bertrt.progress import progress_bar

__all__ = ["DESCRIPTION", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "rank documents by a query"
DESCRIPTION = """\
Rank each document DOC, or each line of standard input, by its score with a query, best first. The
artifact is a cross-encoder: text-classification with one label. Documents are numbered from 0."""
JSON_HELP = 'print the documents as one JSON list of {"corpus_id": …, "score": …, "text": …}'


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_directory(parser)
    parser.add_argument("--query", metavar="Q", required=True, help="the query")
    parser.add_argument(
        "texts",
        metavar="DOC",
        nargs="*",
        help="the documents (default: the lines of standard input)",
    )
    parser.add_argument(
        "--top-k",
        metavar="K",
        type=_positive,
        help="print only the best K documents (default: all)",
    )
    add_session_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the ranking as a table or JSON."""
    import bertrt

    documents = arguments.texts or list(_standard_input())
    if not documents:
        raise InputError("there is no document: give one as an argument or on standard input")
    with (
        bertrt.load(
            arguments.directory,
            threads=arguments.threads,
            allow_spinning=arguments.allow_spinning,
            max_batch_tokens=arguments.max_batch_tokens,
        ) as runtime,
        progress_bar() as draw,
    ):
        ranked = runtime.rank(
            arguments.query, documents, top_k=arguments.top_k, return_documents=True, progress=draw
        )
    if arguments.json:
        print(json.dumps(ranked, ensure_ascii=False))
    else:
        rows = [
            (f"{entry['score']:.4f}", str(entry["corpus_id"]), escape_control(entry["text"]))
            for entry in ranked
        ]
        print(*align_columns(rows, right_aligned=(0, 1)), sep="\n")
    return 0


def _standard_input() -> Iterator[str]:
    if sys.stdin is None:  # closed by the shell
        return
    if sys.stdin.isatty():
        print("bertrt: type one document a line; end with Ctrl-D", file=sys.stderr)
    number = 0
    for lines in read_line_groups(cast(BufferedIOBase, sys.stdin.buffer)):
        for line in lines:
            number += 1
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"line {number}: the text is not UTF-8 ({error}): convert it first"
                ) from error


def _positive(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
