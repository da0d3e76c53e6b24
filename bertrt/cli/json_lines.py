"""The lines of `bertrt run`: a text, or JSON in the form that the task takes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bertrt.errors import InputError, shorten

__all__ = ["FORMS", "Form", "describe_forms", "is_json_string", "parse_line"]


@dataclass(frozen=True)
class Form:
    """The lines of a task.

    Attributes:
        example: a JSON object for one input.
        optional: the keys of the object that may be missing.
        option: the option in whose place the object stands for more than a text; None if a text
            is enough, "" if there is no such option.
    """

    example: Mapping[str, Any]
    optional: frozenset[str] = frozenset()
    option: str | None = None


_TEXT = Form({"text": "A"})
_TEXT_OR_PAIR = Form({"text": "A", "text_pair": "B"}, frozenset({"text_pair"}))

# The form of each task's lines.
FORMS = {
    "feature-extraction": _TEXT_OR_PAIR,
    "fill-mask": _TEXT_OR_PAIR,
    "multiple-choice": Form({"prompt": "A", "choices": ["B", "C"]}, option="choices"),
    "next-sentence-prediction": Form({"text": "A", "text_pair": "B"}, option=""),
    "pretraining": _TEXT_OR_PAIR,
    "question-answering": Form({"question": "A", "context": "B"}, option=""),
    "text-classification": _TEXT_OR_PAIR,
    "text-generation": _TEXT,
    "token-classification": _TEXT,
    "zero-shot-classification": _TEXT,
}
# With the option `is_split_into_words`.
_WORDS = ["New", "York"]


def parse_line(text: str, task: str, options: Mapping[str, Any]) -> Any:
    """Return the input that a line stands for.

    A line that is no JSON, or a JSON string, number or list of numbers, is the text itself.

    Raises InputError, which names the form, for JSON of another form than the task takes, and for
    a text where the task takes JSON.
    """
    form, value = FORMS[task], _json_of(text)
    if options.get("is_split_into_words") is True:
        if isinstance(value, list):
            return value
        raise _other_form(text, f"a line of words is a JSON list such as {json.dumps(_WORDS)}")
    if isinstance(value, dict):
        missing = form.example.keys() - value.keys() - form.optional
        if missing or value.keys() - form.example.keys():
            raise _other_form(text, _describe(form, task, options))
        return value["text"] if form is _TEXT else value
    holds_parts = isinstance(value, list) and any(isinstance(v, (str, list, dict)) for v in value)
    if holds_parts or not _takes_text(form, options):
        raise _other_form(text, _describe(form, task, options))
    return text


def is_json_string(text: str | bytes) -> bool:
    """Whether a line is a whole JSON string, which may be a quoted sentence as well."""
    try:
        return text[:1] in ('"', b'"') and isinstance(json.loads(text), str)
    except (ValueError, RecursionError):
        return False


def describe_forms() -> list[str]:
    """Return a line for each form, with its tasks: for the command's help."""
    tasks: dict[str, list[str]] = {}
    for task, form in FORMS.items():
        tasks.setdefault(json.dumps(form.example), []).append(task)
    return [line for form, names in tasks.items() for line in (f"  {form}", *_wrap(names))]


def _wrap(names: list[str]) -> list[str]:
    return [f"      {', '.join(names[i : i + 3])}" for i in range(0, len(names), 3)]


def _json_of(text: str) -> Any:
    """Return the object or list that a text is as JSON; None for other texts."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _takes_text(form: Form, options: Mapping[str, Any]) -> bool:
    return form.option is None or form.option in options


def _describe(form: Form, task: str, options: Mapping[str, Any]) -> str:
    """Say what a line of a task is."""
    text = "a text or " if _takes_text(form, options) else ""
    optional = "".join(f" ({key} may be missing)" for key in sorted(form.optional))
    instead = f", or a text with -o {form.option}=…" if form.option and not text else ""
    return f"a line for {task} is {text}{json.dumps(form.example)}{optional}{instead}"


def _other_form(text: str, form: str) -> InputError:
    return InputError(f"the line is {shorten(text)}: {form}")
