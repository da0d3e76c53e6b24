"""`bertrt doctor`: what bertrt finds on this machine, and what is missing."""

import argparse
import json
import sys

from bertrt.cli.table import aligned, printable

__all__ = ["DESCRIPTION", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "show versions, providers, threads and GPU, and what is missing"
DESCRIPTION = """\
Show what bertrt finds here: versions, ONNX Runtime's providers, threads and why that many,
telemetry, GPU. The exit status is 1 when something that answering needs is missing or broken.
PyTorch is never imported."""
JSON_HELP = "print one JSON document"


def configure(parser: argparse.ArgumentParser) -> None:
    """The command has no arguments of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Examine, and print what was found; 1 when there is a problem."""
    from bertrt.cli.examine import examine

    findings, problems = examine()
    if arguments.json:
        document = {"healthy": not problems, "problems": problems, **findings}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        rows = [(name.replace("_", " "), _text(value)) for name, value in findings.items()]
        print(*aligned(rows), sep="\n")
    for problem in problems:
        print("bertrt: error:", printable(" ".join(problem.split())), file=sys.stderr)
    return 1 if problems else 0


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{k} {v or 'not installed'}" for k, v in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return printable(str(value))
