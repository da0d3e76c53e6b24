"""`bertrt inspect`: show what an artifact contains."""

import argparse
import json

from bertrt.cli.arguments import add_directory

__all__ = ["DESCRIPTION", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "show what an artifact contains"
DESCRIPTION = """\
Show what an artifact contains: its task, source, graph, how close its outputs are to PyTorch's,
tokenizer and files. The hashes of all files are checked first; the graph is not run."""
JSON_HELP = "print the directory and the contents of bertrt.json as one JSON document"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_directory(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the manifest."""
    from bertrt.artifact.directory import Artifact
    from bertrt.cli.format_manifest import format_details, manifest_json

    artifact = Artifact.open(arguments.directory)
    if arguments.json:
        document = manifest_json(arguments.directory, artifact.manifest)
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print(*format_details(arguments.directory, artifact.manifest), sep="\n")
    return 0
