"""`bertrt run`: answers to texts, from the command line or from standard input."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterable, Sequence
from io import BufferedIOBase
from typing import TYPE_CHECKING, Any, NoReturn, cast

from bertrt.cli.arguments import add_directory, add_running
from bertrt.cli.lines import line_groups
from bertrt.cli.table import printable
from bertrt.errors import InputError
from bertrt.progress import ProgressCallback, progress_bar

if TYPE_CHECKING:
    from bertrt.runtime import Runtime

__all__ = ["DESCRIPTION", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "answer texts with an artifact"
DESCRIPTION = """\
Answer each TEXT, or each line of standard input as it comes.

A text that is a JSON object is an input of several parts:
  {"text": "A", "text_pair": "B"}                     a pair
  {"question": "Who?", "context": "Mary."}            question answering
  {"prompt": "The cat sat", "choices": ["a", "b"]}    multiple choice

A text that cannot be answered is named on standard error with its number, the others are answered
all the same, and the exit status is 1. It is 1 too when there is no text at all. Standard input
and output are UTF-8."""
JSON_HELP = 'print one JSON document a line for each text; {"error": "…"} where there is no answer'


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_directory(parser)
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="else lines of standard input")
    parser.add_argument("--task", help="another task over the same graph")
    parser.add_argument(
        "-o",
        "--option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        dest="options",
        type=_option,
        help="an option of the task, such as top_k=3 or candidate_labels=sports,politics; VALUE "
        "is read as JSON if it is JSON, else it is a string; may be repeated",
    )
    add_running(parser)


def run(arguments: argparse.Namespace) -> int:
    """Answer texts until there are no more; 1 when one of them could not be answered."""
    import bertrt
    from bertrt.cli.answers import AnswerPrinter

    options = dict(arguments.options)
    unit = "text" if arguments.texts else "line"
    total = failed = 0
    with (
        bertrt.load(
            arguments.directory,
            task=arguments.task,
            threads=arguments.threads,
            allow_spinning=arguments.allow_spinning,
            max_batch_tokens=arguments.max_batch_tokens,
        ) as runtime,
        _counter() as report,
    ):
        # An empty iterator checks the options now, once, and not at every text.
        runtime(iter(()), **options)
        task = "zero-shot-classification" if "candidate_labels" in options else runtime.info["task"]
        show = _print_json if arguments.json else AnswerPrinter(task)
        for group in [arguments.texts] if arguments.texts else _standard_input():
            answers = _answers(runtime, group, options)
            report(0, None, "")
            for answer in answers:
                total += 1
                if isinstance(answer, InputError):
                    failed += 1
                    message = printable(f"{unit} {total}: {answer}")
                    print("bertrt: error:", message, file=sys.stderr)
                show(answer)
            print(end="", flush=True)
            report(total, None, f"{total:,} {unit}s")
    if total == 0:
        raise InputError("there is no text: give one as an argument or on standard input")
    return 1 if failed else 0


def _counter() -> contextlib.AbstractContextManager[ProgressCallback]:
    """Report how many texts are done, unless the answers themselves go to the terminal."""
    if sys.stdout.isatty():
        return contextlib.nullcontext(lambda done, total, what: None)
    return progress_bar()


def _standard_input() -> Iterable[list[bytes]]:
    if sys.stdin is None:  # closed by the shell
        return ()
    if sys.stdin.isatty():
        print("bertrt: type texts, one a line; Ctrl-D ends", file=sys.stderr)
    return line_groups(cast(BufferedIOBase, sys.stdin.buffer))


def _answers(
    runtime: "Runtime", texts: Sequence[str | bytes], options: dict[str, Any]
) -> list[Any]:
    """An answer for each text, or the InputError that says why there is none."""
    try:
        answers: list[Any] = runtime([_parse(text) for text in texts], **options)
    except InputError as error:
        if len(texts) == 1:
            return [error]
        # One bad text fails a list before anything is computed, so halves cost little.
        half = len(texts) // 2
        return _answers(runtime, texts[:half], options) + _answers(runtime, texts[half:], options)
    return answers


def _parse(text: str | bytes) -> Any:
    """A text as an input: the object if it is a JSON object, else the text itself."""
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"the text is not UTF-8 ({error}): convert it first") from error
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _print_json(answer: Any) -> None:
    document = {"error": str(answer)} if isinstance(answer, InputError) else answer
    print(json.dumps(document, ensure_ascii=False))


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return name, value


def _no_constant(name: str) -> NoReturn:
    """NaN and Infinity are no JSON, although Python reads them."""
    raise ValueError(name)
