"""`bertrt export-triton`: write a model repository for Triton Inference Server."""

import argparse
import json
from pathlib import Path

from bertrt.cli.arguments import add_directory, whole, whole_or_auto
from bertrt.cli.formatting import escape_control
from bertrt.cli.stopped_by_sigterm import stopped_by_sigterm

__all__ = ["DESCRIPTION", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "write a model repository for Triton Inference Server"
DESCRIPTION = """\
Write a model repository for Triton Inference Server from an artifact, whose files are copied. Its
README.md says what the model takes and gives, and what the server needs.

The kinds: python, every task with the runtime's answers, in Triton's Python backend; ensemble, a
tokenizer in Python and the graph in ONNX Runtime; text, the graph that takes text, of an artifact
that was exported with its tokenizer in a graph, in ONNX Runtime alone."""
JSON_HELP = "print the repository, the model's name and its kind as one JSON document"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_directory(parser)
    parser.add_argument(
        "output", metavar="OUT", type=Path, help="the repository to create; it must not exist"
    )
    parser.add_argument(
        "--kind",
        choices=("python", "text", "ensemble"),
        default="python",
        help="what runs the model, see above (default: python)",
    )
    parser.add_argument("--name", help="the model's name (default: that of the directory DIR)")
    parser.add_argument(
        "--max-batch",
        metavar="N",
        type=whole,
        default=64,
        help="the maximum number of texts in a request, and in requests that run together "
        "(default: 64)",
    )
    parser.add_argument(
        "--queue",
        metavar="N",
        type=whole,
        default=1024,
        help="how many requests may wait; the server refuses others (default: 1024)",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=whole_or_auto,
        default="auto",
        help="the number of threads, or 'auto' for the CPUs that the server may use; for a graph "
        "in ONNX Runtime, all cores of the machine (default: auto)",
    )
    parser.add_argument(
        "--truncation",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether texts that are too long are cut; with --no-truncation they are refused "
        "(default: cut)",
    )
    parser.add_argument(
        "--op-library",
        metavar="PATH",
        default="/opt/ortext/libortextensions.so",
        help="for the kind text, where the server has the library of onnxruntime-extensions "
        "(default: /opt/ortext/libortextensions.so)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the repository and print what it is."""
    from bertrt.triton_repository.model_config import Settings
    from bertrt.triton_repository.write import write_repository

    name = arguments.name or arguments.directory.resolve().name
    settings = Settings(
        name,
        arguments.max_batch,
        arguments.queue,
        arguments.threads,
        arguments.truncation,
        arguments.op_library,
    )
    with stopped_by_sigterm():
        write_repository(arguments.directory, arguments.output, arguments.kind, settings)
    if arguments.json:
        written = {"output": str(arguments.output), "model": name, "kind": arguments.kind}
        print(json.dumps(written, ensure_ascii=False))
    else:
        where = escape_control(str(arguments.output))
        print(f"wrote {where}: model {name}, kind {arguments.kind}; {where}/README.md says more")
    return 0
