"""`bertrt inspect`: what is in an artifact."""

import argparse
import json

from bertrt.cli.arguments import add_directory

__all__ = ["DESCRIPTION", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "show what is in an artifact"
DESCRIPTION = """\
Show what is in an artifact: task, source, graph, how near its answers are to PyTorch, tokenizer
and files. Every file's hash is checked first; nothing is run."""
JSON_HELP = "print bertrt.json's contents, and the directory, as one JSON document"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_directory(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the manifest."""
    from bertrt.artifact.directory import Artifact
    from bertrt.cli.manifest import as_json, details

    artifact = Artifact.open(arguments.directory)
    if arguments.json:
        document = as_json(arguments.directory, artifact.manifest)
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print(*details(arguments.directory, artifact.manifest), sep="\n")
    return 0
