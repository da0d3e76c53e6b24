"""`bertrt batch`: answer the texts of files, of any number, into a directory."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertrt.cli.arguments import add_directory, add_session_options, add_task_options, whole
from bertrt.cli.embed_options import add_embed_options, read_embed_options, spelled_options
from bertrt.cli.formatting import escape_control
from bertrt.cli.stopped_by_sigterm import stopped_by_sigterm
from bertrt.progress import progress_bar

if TYPE_CHECKING:
    from bertrt.batch.settings import Settings

__all__ = ["DESCRIPTION", "ENGINES", "FORMATS", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "answer the texts of Parquet, JSON lines or CSV files"
DESCRIPTION = """\
Answer the text in each row of files, into a directory: with vectors, labels, or what the artifact's
task gives. The memory that this takes does not grow with the number of rows.

The output is written in parts, each of which appears complete or not at all. A job that was stopped
or killed goes on with the same command: rows of finished parts are not answered again, and each row
is there exactly once. The directory is complete when it has _manifest.json. A row that cannot be
answered has its error in the column error. A file without one of the columns is exit status 2."""
JSON_HELP = "print what was written as one JSON document"
# Those of the writers and the engines, without importing numpy; a test compares them.
FORMATS = ("parquet", "jsonl", "npy")
ENGINES = ("local", "ray")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_directory(parser)
    parser.add_argument(
        "--input",
        metavar="PATH",
        nargs="+",
        action="extend",
        required=True,
        help="files that end in .parquet, .jsonl, .ndjson or .csv, or patterns such as "
        "'texts/**/*.parquet'",
    )
    parser.add_argument("--column", metavar="NAME", default="text", help="the column of texts")
    parser.add_argument(
        "--id",
        metavar="NAME",
        help="the column of ids, whole numbers or strings, which no two rows share (default: the "
        "rows' numbers from 0, as row)",
    )
    parser.add_argument(
        "--allow-duplicate-ids",
        action="store_true",
        help="let rows share an id, and add their numbers from 0, as row",
    )
    parser.add_argument(
        "--output",
        metavar="OUT",
        type=Path,
        required=True,
        help="the directory to write; a job that has begun there goes on",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="parquet and jsonl, parts with a row for each row; npy, one array of vectors and "
        "ids.parquet (default: what OUT ends in, or parquet)",
    )
    parser.add_argument(
        "--shard-rows",
        metavar="N",
        type=whole,
        default=16384,
        help="how many rows a part has: what is lost at most by a kill (default: 16384)",
    )
    parser.add_argument(
        "--task",
        help="embed, for the vectors of an artifact that gives some, or another task that the "
        "graph can answer (default: the artifact's own)",
    )
    parser.add_argument(
        "--on-error",
        choices=("column", "fail"),
        default="column",
        help="write why a row has no answer into the column error, or fail (default: column)",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="local",
        help="local, this process; ray, the actors of a Ray cluster, which all see the same files "
        "(default: local)",
    )
    parser.add_argument(
        "--actors",
        metavar="N",
        type=whole,
        help="with ray, how many processes answer (default: as many as the cluster has CPUs for)",
    )
    parser.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="with ray, the cluster (default: the one that RAY_ADDRESS names, one that runs here, "
        "or a new one)",
    )
    add_embed_options(parser)
    add_task_options(parser)
    add_session_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run a job, or what is left of it; return 2 if a file lacks a column."""
    from bertrt.batch.rows import MissingColumnError

    settings = _settings(arguments)
    with stopped_by_sigterm(), progress_bar() as progress:
        with spelled_options():
            answerer = settings.answerer()
        try:
            if arguments.engine == "local":
                from bertrt.batch.local import run_local

                counts = run_local(settings, answerer, progress)
            else:
                from bertrt.ray.data import run_ray

                actors, address = arguments.actors, arguments.ray_address
                counts = run_ray(settings, answerer, progress, actors=actors, address=address)
        except MissingColumnError as error:
            print("bertrt: error:", escape_control(str(error)), file=sys.stderr)
            return 2
        finally:
            answerer.close()
    _print_summary(arguments, counts)
    return 0


def _settings(arguments: argparse.Namespace) -> "Settings":
    """Return the job's settings, with the options of the task from both kinds of arguments."""
    from bertrt.batch.settings import Settings

    options: dict[str, Any] = {**read_embed_options(arguments), **dict(arguments.options)}
    if arguments.kind is not None:
        options["kind"] = arguments.kind
    threads = arguments.threads
    if arguments.engine == "ray" and threads == "auto":
        threads = 1  # what an actor is given
    ending = arguments.output.suffix.removeprefix(".")
    return Settings(
        # Actors of Ray have a working directory of their own.
        directory=arguments.directory.absolute(),
        inputs=arguments.input,
        output=arguments.output.absolute(),
        column=arguments.column,
        id_column=arguments.id,
        task=arguments.task,
        options=options,
        on_error=arguments.on_error,
        format=arguments.format or (ending if ending in FORMATS else "parquet"),
        allow_duplicate_ids=arguments.allow_duplicate_ids,
        shard_rows=arguments.shard_rows,
        session={
            "threads": threads,
            "allow_spinning": arguments.allow_spinning,
            "max_batch_tokens": arguments.max_batch_tokens,
        },
    )


def _print_summary(arguments: argparse.Namespace, counts: Mapping[str, int]) -> None:
    """Say what was written."""
    output = str(arguments.output)
    if arguments.json:
        print(json.dumps({"output": output, **counts}, ensure_ascii=False))
        return
    parts = [f"{counts['answers']:,} of {counts['rows']:,} rows answered"]
    if counts["errors"]:
        parts.append(f"{counts['errors']:,} with an error")
    if counts["truncated"]:
        parts.append(f"{counts['truncated']:,} cut")
    print(f"{output}: {', '.join(parts)}")
