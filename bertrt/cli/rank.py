"""`bertrt rank`: rank documents by a query."""

import argparse
import json

from bertrt.cli.arguments import add_directory, add_session_options, add_texts, whole
from bertrt.cli.formatting import align_columns, escape_control
from bertrt.cli.read_lines import read_texts
from bertrt.errors import InputError
from bertrt.progress import progress_bar

__all__ = ["DESCRIPTION", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "rank documents by a query"
DESCRIPTION = """\
Rank each document DOC, or each line of standard input, by its score with a query, best first. The
artifact is a cross-encoder, text-classification with one label, or one for multi-vector-embedding.
Documents are numbered from 0."""
JSON_HELP = 'print the documents as one JSON list of {"corpus_id": …, "score": …, "text": …}'


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_directory(parser)
    parser.add_argument("--query", metavar="Q", required=True, help="the query")
    add_texts(parser, metavar="DOC", what="documents")
    parser.add_argument(
        "--top-k",
        metavar="K",
        type=whole,
        help="print only the best K documents (default: all)",
    )
    add_session_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the ranking as a table or JSON."""
    import bertrt

    documents = [text for group in read_texts(arguments.texts, "document") for text in group]
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
