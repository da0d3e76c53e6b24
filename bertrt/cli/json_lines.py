"""The lines of `bertrt run`: a text, or JSON in the form that the task takes."""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from bertrt.errors import InputError, shorten

__all__ = ["FORMS", "Form", "describe_forms", "load_json", "note_on_text", "parse_line"]


@dataclass(frozen=True)
class Form:
    """The lines of a task.

    Attributes:
        example: a JSON object for one input.
        optional: the keys of the object that may be missing.
        option: the option in whose place the object stands for more than a text; None if a text
            is enough, "" if there is no such option.
        for_all: the task's inputs beside a text that are options here, the same for all lines.
    """

    example: Mapping[str, Any]
    optional: frozenset[str] = frozenset()
    option: str | None = None
    for_all: frozenset[str] = frozenset()


_TEXT = {"text": "A"}
_PAIR = {"text": "A", "text_pair": "B"}
_TEXT_OR_PAIR = Form(_PAIR, frozenset({"text_pair"}))
_LABELS = frozenset({"candidate_labels"})

# The form of each task's lines.
FORMS = {
    "feature-extraction": _TEXT_OR_PAIR,
    "fill-mask": _TEXT_OR_PAIR,
    "multi-vector-embedding": Form(_TEXT),
    "multiple-choice": Form({"prompt": "A", "choices": ["B", "C"]}, option="choices"),
    "next-sentence-prediction": Form(_PAIR, option=""),
    "pretraining": _TEXT_OR_PAIR,
    "question-answering": Form({"question": "A", "context": "B"}, option=""),
    "sparse-embedding": _TEXT_OR_PAIR,
    # With candidate labels it answers as zero-shot-classification does.
    "text-classification": dataclasses.replace(_TEXT_OR_PAIR, for_all=_LABELS),
    "text-generation": Form(_TEXT),
    "token-classification": Form(_TEXT, for_all=frozenset({"is_split_into_words", "delimiter"})),
    "zero-shot-classification": Form(_TEXT, for_all=_LABELS),
}
# With the option `is_split_into_words`.
_WORDS = ["New", "York"]
# How an object, a list of strings or a list of objects starts, and hardly a sentence: not [MASK].
_LIKE_JSON = re.compile(r'\s*(\{|\[\s*["{])')


def parse_line(text: str, task: str, options: Mapping[str, Any]) -> Any:
    """Return the input that a line stands for.

    A line that is no JSON, or a JSON string, number, null or list of numbers, is the text itself:
    see `note_on_text`.

    Raises InputError, which names the form, for JSON of another form than the task takes, and for
    a text where the task takes JSON.
    """
    form, value = FORMS[task], _json_of(text)
    if options.get("is_split_into_words") is True:
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            return value
        raise _other_form(text, f"a line of words is a JSON list such as {json.dumps(_WORDS)}")
    if isinstance(value, dict):
        if not _has_form(value, form):
            given = {name: value[name] for name in value if name in form.for_all}
            remedy = "; for all lines, pass" if given else ""
            raise _other_form(text, _describe(form, task, options) + remedy, **given)
        return value["text"] if form.example == _TEXT else value
    if _holds_parts(value) or not _takes_text(form, options):
        raise _other_form(text, _describe(form, task, options))
    return text


def note_on_text(text: str, task: str, options: Mapping[str, Any]) -> str | None:
    """Return a note on a line that `parse_line` takes as text, although it may be meant as JSON.

    Such are JSON values that may be sentences as well, and what starts like an object or a list of
    strings and is no JSON. The note is the same for all lines of a kind.
    """
    if not _takes_text(FORMS[task], options) or options.get("is_split_into_words") is True:
        return None
    try:
        value = load_json(text)
    except ValueError:
        if _LIKE_JSON.match(text) is None:
            return None
        what = "looks like JSON, but is none, and is taken as text"
    else:
        if isinstance(value, dict) or _holds_parts(value):
            return None
        what = "is JSON, and is taken as text as it stands"
    return f"{what}: {_describe(FORMS[task], task, options)}"


def load_json(text: str) -> Any:
    """Return the value that a text is as JSON.

    Raises ValueError for other texts, also for NaN and Infinity, which Python would read.
    """
    try:
        return json.loads(text, parse_constant=_reject_constant)
    except RecursionError as error:
        raise ValueError("the text is nested too deeply") from error


def describe_forms() -> list[str]:
    """Return a line for each form, with its tasks: for the command's help."""
    tasks: dict[str, list[str]] = {}
    for task, form in FORMS.items():
        tasks.setdefault(json.dumps(form.example), []).append(task)
    return [line for form, names in tasks.items() for line in (f"  {form}", *_wrap(names))]


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _wrap(names: list[str]) -> list[str]:
    return [f"      {', '.join(names[i : i + 3])}" for i in range(0, len(names), 3)]


def _json_of(text: str) -> Any:
    """Return the object or list that a text is as JSON; None for other texts."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return load_json(text)
    except ValueError:
        return None


def _has_form(value: Mapping[str, Any], form: Form) -> bool:
    """Whether an object has the keys of a form, and values of their types."""
    if value.keys() - form.example.keys() or form.example.keys() - value.keys() - form.optional:
        return False
    return all(
        (part is None and key in form.optional) or _same_type(part, form.example[key])
        for key, part in value.items()
    )


def _holds_parts(value: Any) -> bool:
    """Whether a JSON value is a list of what may be texts or inputs."""
    return isinstance(value, list) and any(isinstance(v, (str, list, dict)) for v in value)


def _same_type(value: Any, example: Any) -> bool:
    if isinstance(example, list):
        return isinstance(value, list) and all(_same_type(item, example[0]) for item in value)
    return isinstance(value, type(example))


def _takes_text(form: Form, options: Mapping[str, Any]) -> bool:
    return form.option is None or form.option in options


def _describe(form: Form, task: str, options: Mapping[str, Any]) -> str:
    """Say what a line of a task is."""
    text = "a text or " if _takes_text(form, options) else ""
    optional = "".join(f" ({key} may be missing)" for key in sorted(form.optional))
    instead = f", or a text with -o {form.option}=…" if form.option and not text else ""
    return f"a line for {task} is {text}{json.dumps(form.example)}{optional}{instead}"


def _other_form(text: str, form: str, **options: Any) -> InputError:
    return InputError(f"the line is {shorten(text)}: {form}", **options)
