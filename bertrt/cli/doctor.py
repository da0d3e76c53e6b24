"""`bertrt doctor`: show what bertrt finds on this machine, and what is missing."""

import argparse
import json
import sys

from bertrt.cli.formatting import align_columns, escape_control

__all__ = ["DESCRIPTION", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "show versions, providers, threads and GPUs, and what is missing"
DESCRIPTION = """\
Show what bertrt finds on this machine: versions, ONNX Runtime's providers, the number of threads
and the reason for it, telemetry, and GPUs. The exit status is 1 if something that inference needs
is missing or broken. PyTorch is not imported."""
JSON_HELP = "print the findings as one JSON document"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no further arguments."""


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; return 1 if there are problems."""
    from bertrt.cli.diagnose import diagnose

    findings, problems = diagnose()
    if arguments.json:
        document = {"healthy": not problems, "problems": problems, **findings}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        rows = [(name.replace("_", " "), _text(value)) for name, value in findings.items()]
        print(*align_columns(rows), sep="\n")
    for problem in problems:
        print("bertrt: error:", escape_control(" ".join(problem.split())), file=sys.stderr)
    return 1 if problems else 0


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{k} {v or 'not installed'}" for k, v in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return escape_control(str(value))
