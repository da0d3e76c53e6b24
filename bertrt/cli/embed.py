"""`bertrt embed`: one vector for each text, printed or written to a file."""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertrt.cli.arguments import add_directory, add_session_options, add_texts
from bertrt.cli.embed_options import (
    OTHER_OPTIONS,
    add_embed_options,
    read_embed_options,
    spell,
    spelled_options,
)
from bertrt.cli.read_lines import read_texts
from bertrt.cli.staged_file import staged_file
from bertrt.cli.stopped_by_sigterm import stopped_by_sigterm
from bertrt.errors import InputError
from bertrt.progress import ProgressCallback, progress_bar

if TYPE_CHECKING:
    import numpy as np

    from bertrt import SparseVector
    from bertrt.runtime import Runtime

    # An array [n, H], or a list of sparse vectors, or of a multi-vector model's arrays.
    Vectors = np.ndarray | list[SparseVector] | list[np.ndarray]
    Embed = Callable[[Sequence[str]], Vectors]
    # Its vectors are those that an Embed returned.
    Write = Callable[[Sequence[str], Any], None]

__all__ = ["DESCRIPTION", "ENDINGS", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "turn texts into vectors"
DESCRIPTION = """\
Turn each TEXT, or each line of standard input, into a vector: the model's own, unless options say
otherwise. The artifact is for feature-extraction, sparse-embedding or multi-vector-embedding. Each
vector is printed as a JSON list on a line, a sparse one as {"ids": […], "weights": […]}, and a list
of them, one for each token, from a multi-vector model; or all are written to a file, which appears
when it is complete. The memory that this takes does not grow with the number of lines. A line that
cannot be embedded is an error, and leaves no file."""
JSON_HELP = (
    'print {"text": …, "vector": […]} for each text; with --output, what was written as one JSON '
    "document"
)
# Those of the writers, without importing numpy; a test compares them.
ENDINGS = (".npy", ".jsonl", ".parquet")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_directory(parser)
    add_texts(parser, metavar="TEXT", what="texts")
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=_output,
        help="the file to write: .npy, an array with a row for each text; .jsonl, a line "
        '{"text": …, "vector": […]} for each; .parquet, the columns text and vector (default: '
        "standard output)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    add_embed_options(parser)
    add_session_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Embed all texts, and print or write their vectors."""
    import bertrt

    options = read_embed_options(arguments)
    unit = "text" if arguments.texts else "line"
    done = 0
    with (
        stopped_by_sigterm(),
        _open_sink(arguments) as write,
        bertrt.load(
            arguments.directory,
            threads=arguments.threads,
            allow_spinning=arguments.allow_spinning,
            max_batch_tokens=arguments.max_batch_tokens,
        ) as runtime,
        _counter(arguments) as draw,
    ):

        def report(part: int, total: int | None, what: str) -> None:
            draw(done + part, None, f"{done + part:,} {unit}s")

        method = _method(runtime, arguments, options)
        embed = partial(method, progress=report, **options)
        with spelled_options():
            embed(iter(()))  # checks the options
        vectors = None
        for texts in read_texts(arguments.texts, "text"):
            vectors = _embed(embed, texts, unit, done + 1)
            write(texts, vectors)
            done += len(texts)
        if vectors is None:
            # Any text tells the size and dtype of an empty array.
            with spelled_options():
                vectors = embed([""], truncation=True)[:0]
            write([], vectors)
    if arguments.output is not None:
        _print_summary(arguments, *_shape(runtime, vectors, done))
    return 0


def _method(
    runtime: "Runtime", arguments: argparse.Namespace, options: Mapping[str, Any]
) -> "Callable[..., Vectors]":
    """Return the runtime's method that makes the vectors.

    Raises InputError for an option that vectors of this task do not have.
    """
    kind, task, output = arguments.kind, runtime.info["task"], arguments.output
    if task not in OTHER_OPTIONS:
        methods = {"query": runtime.embed_query, "document": runtime.embed_document}
        return methods.get(kind, runtime.embed)
    for name in options.keys() - OTHER_OPTIONS[task]:
        raise InputError(
            f"--{name.replace('_', '-')} is for artifacts of feature-extraction, and this one is "
            f"for {task}: leave it out"
        )
    if output is not None and output.suffix != ".jsonl":
        what = "sparse vectors" if task == "sparse-embedding" else "lists of vectors"
        raise InputError(f"--output {str(output)!r} cannot hold {what}: give a .jsonl file")
    if task == "sparse-embedding":
        return partial(runtime.embed_sparse, kind=kind)
    if kind is None:
        raise InputError(
            "a multi-vector model embeds queries and documents differently: give --query or "
            "--document"
        )
    return partial(runtime.embed_tokens, kind=kind)


def _shape(runtime: "Runtime", vectors: "Vectors", count: int) -> tuple[list[int], str]:
    """Return the shape and the dtype of so many vectors like these, or lists of them."""
    if not isinstance(vectors, list):
        return [count, vectors.shape[1]], str(vectors.dtype)
    facts = runtime.info.get("sparse")
    return [count] if facts is None else [count, facts["size"]], "float32"


def _embed(embed: "Embed", texts: Sequence[str], unit: str, number: int) -> "Vectors":
    """Return the vectors of texts, of which the first has this number.

    Raises InputError with the number of the first text that cannot be embedded, or for options
    with which none can.
    """
    import numpy as np

    try:
        return embed(texts)
    except InputError as error:
        if len(texts) == 1:
            with spelled_options():
                embed([""])
            raise InputError(f"{unit} {number}: {spell(error)}") from error
    # A wrong text fails its list before anything is computed, so halving costs little.
    half = len(texts) // 2
    first = _embed(embed, texts[:half], unit, number)
    second = _embed(embed, texts[half:], unit, number + half)
    if isinstance(first, list):
        return [*first, *second]
    return np.concatenate([first, second])


@contextlib.contextmanager
def _open_sink(arguments: argparse.Namespace) -> "Iterator[Write]":
    """Yield a function that prints or writes texts and their vectors."""
    from bertrt.cli.vector_writers import WRITERS, print_vectors

    if arguments.output is None:
        yield partial(print_vectors, with_text=arguments.json)
        return
    with (
        staged_file(arguments.output, overwrite=arguments.overwrite) as stage,
        contextlib.closing(WRITERS[arguments.output.suffix](stage)) as writer,
    ):
        yield writer.write


def _counter(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[ProgressCallback]:
    """Show how many texts are done, unless vectors are printed on the terminal."""
    if arguments.output is None and sys.stdout.isatty():
        return contextlib.nullcontext(lambda done, total, what: None)
    return progress_bar()


def _print_summary(arguments: argparse.Namespace, shape: list[int], dtype: str) -> None:
    """Say what was written."""
    output = str(arguments.output)
    if arguments.json:
        print(json.dumps({"output": output, "shape": shape, "dtype": dtype}, ensure_ascii=False))
    else:
        print(f"{output}: {dtype} {shape}")


def _output(text: str) -> Path:
    path = Path(text)
    if path.suffix in ENDINGS:
        return path
    raise argparse.ArgumentTypeError(f"{text!r} does not end in {', '.join(ENDINGS)}")
