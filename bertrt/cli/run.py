"""`bertrt run`: answer texts from the command line or from standard input."""

import argparse
import contextlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bertrt.cli.arguments import (
    add_directory,
    add_session_options,
    add_task_options,
    add_texts,
)
from bertrt.cli.formatting import escape_control
from bertrt.cli.json_lines import describe_forms, note_on_text, parse_line
from bertrt.cli.read_lines import decode_line, read_standard_input
from bertrt.errors import InputError, shorten
from bertrt.progress import ProgressCallback, progress_bar

if TYPE_CHECKING:
    from bertrt.runtime import Runtime

__all__ = ["DESCRIPTION", "JSON_HELP", "SUMMARY", "configure", "run"]

SUMMARY = "answer texts with an artifact"
_FORMS = "\n".join(describe_forms())
DESCRIPTION = f"""\
Answer each TEXT, or each line of standard input as soon as it is read.

A text that is a JSON object is an input in the form of its task:
{_FORMS}
text_pair may be missing, except for next-sentence-prediction. With -o is_split_into_words=true
each text is a JSON list of words.

If a text cannot be answered, an error with its number is printed on standard error, and the other
texts are still answered. The exit status is then 1, and also if there is no text at all. Standard
input and output are UTF-8."""
JSON_HELP = 'print each answer as JSON on one line; {"error": "…"} for a text that has none'


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_directory(parser)
    add_texts(parser, metavar="TEXT", what="texts")
    parser.add_argument(
        "--task",
        help="another task that the graph can answer, such as zero-shot-classification for a "
        "text-classification artifact (default: the artifact's own)",
    )
    add_task_options(parser)
    add_session_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Answer all texts; return 1 if one of them could not be answered."""
    import bertrt
    from bertrt.cli.format_answers import AnswerPrinter

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
        _text_counter() as report,
    ):
        # A call without inputs checks the options once, and not for each text.
        try:
            runtime(iter(()), **options)
        except InputError as error:
            raise _spelled(error, options) from error
        task = "zero-shot-classification" if "candidate_labels" in options else runtime.info["task"]
        print_answer = _print_json if arguments.json else AnswerPrinter(task)
        noted: set[str] = set()
        for group in [arguments.texts] if arguments.texts else read_standard_input("text"):
            answers = _answers(runtime, task, group, options)
            report(0, None, "")
            for text, answer in zip(group, answers, strict=True):
                total += 1
                if isinstance(answer, InputError):
                    failed += 1
                    message = escape_control(f"{unit} {total}: {answer}")
                    print("bertrt: error:", message, file=sys.stderr)
                elif (note := note_on_text(decode_line(text), task, options)) and note not in noted:
                    noted.add(note)
                    print(f"bertrt: {unit} {total} {note}", file=sys.stderr)
                print_answer(answer)
            print(end="", flush=True)
            report(total, None, f"{total:,} {unit}s")
    if total == 0:
        raise InputError("there is no text: give one as an argument or on standard input")
    return 1 if failed else 0


def _text_counter() -> contextlib.AbstractContextManager[ProgressCallback]:
    """Show how many texts are done, unless answers are printed on the terminal."""
    if sys.stdout.isatty():
        return contextlib.nullcontext(lambda done, total, what: None)
    return progress_bar()


def _answers(
    runtime: "Runtime", task: str, texts: Sequence[str | bytes], options: dict[str, Any]
) -> list[Any]:
    """Return an answer for each text, or the InputError that says why it has none."""
    try:
        inputs = [parse_line(decode_line(text), task, options) for text in texts]
        answers: list[Any] = runtime(inputs, **options)
    except InputError as error:
        if len(texts) == 1:
            return [_spelled(error, options)]
        # An invalid text fails its list before anything is computed, so splitting costs little.
        half = len(texts) // 2
        return [
            *_answers(runtime, task, texts[:half], options),
            *_answers(runtime, task, texts[half:], options),
        ]
    return answers


def _spelled(error: InputError, options: Mapping[str, Any]) -> InputError:
    """Return an error with the options that it names, and their values, as this command takes them.

    `options` are those of the call.
    """
    problem = error.problem
    for name, value in options.items():
        items = value if isinstance(value, list) else ()
        for verb, part in (("is", value), *(("holds", item) for item in items)):
            start = f"{name} {verb} {shorten(part)}"
            if problem.startswith(start) and not isinstance(part, str):
                text = json.dumps(part, ensure_ascii=False)
                problem = f"{name} {verb} {text}{problem.removeprefix(start)}"
    flags = []
    for name, value in error.options.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        flags.append(f"-o {shlex.quote(f'{name}={text}')}")
    return InputError(" ".join([problem, *flags]))


def _print_json(answer: Any) -> None:
    document = {"error": str(answer)} if isinstance(answer, InputError) else answer
    print(json.dumps(document, ensure_ascii=False))
