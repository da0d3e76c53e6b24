"""The lines of `bertrt run`: each task's form, and what is said about another."""

import json
from typing import Any

import pytest

from bertrt.cli.json_lines import FORMS, describe_forms, is_json_string, parse_line
from bertrt.errors import InputError
from bertrt.heads import HEADS

TEXT_TASKS = [task for task in FORMS if FORMS[task].option is None]


def refusal(line: str, task: str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        parse_line(line, task, options)
    return str(caught.value)


def test_every_task_has_a_form() -> None:
    assert FORMS.keys() == HEADS.keys()
    shown = "\n".join(describe_forms())
    for task, form in FORMS.items():
        assert task in shown
        assert json.dumps(form.example) in shown


@pytest.mark.parametrize("task", FORMS)
def test_the_form_of_a_task(task: str) -> None:
    form = FORMS[task]
    line = json.dumps(form.example)
    text_alone = list(form.example) == ["text"]
    assert parse_line(line, task, {}) == ("A" if text_alone else form.example)
    for key in form.optional:
        less = {name: value for name, value in form.example.items() if name != key}
        assert parse_line(json.dumps(less), task, {}) == less
    assert line in refusal(json.dumps({**form.example, "label": 1}), task)
    assert line in refusal("{}", task)
    for name in form.example.keys() - form.optional:
        rest = {key: value for key, value in form.example.items() if key != name}
        assert line in refusal(json.dumps(rest), task)


@pytest.mark.parametrize("task", TEXT_TASKS)
@pytest.mark.parametrize(
    "line",
    [
        "a text",
        "",
        "{a} [MASK] {",
        "[MASK]",
        "[1]",
        "[]",
        "[1, 2.5]",
        "[1] See there.",
        "2024",
        "null",
        '"hello"',
        '"Hello," she said, "again"',
        '{"text": ',
        "[" * 5000,
    ],
)
def test_other_lines_are_texts(task: str, line: str) -> None:
    assert parse_line(line, task, {}) == line


@pytest.mark.parametrize(
    ("line", "task", "message"),
    [
        (
            '{"question": "who?"}',
            "text-classification",
            'the line is \'{"question": "who?"}\': a line for text-classification is a text or '
            '{"text": "A", "text_pair": "B"} (text_pair may be missing)',
        ),
        ('{"text": "a", "label": 1}', "fill-mask", 'a text or {"text": "A", "text_pair": "B"}'),
        ('{"sentence1": "a"}', "feature-extraction", 'a text or {"text": "A", "text_pair": "B"}'),
        ('{"text": "a", "text_pair": "b"}', "token-classification", 'is a text or {"text": "A"}'),
        ('["a", "b"]', "text-classification", "a text or {"),
        ('[{"text": "a"}]', "text-generation", 'a text or {"text": "A"}'),
        ("[[1, 2]]", "zero-shot-classification", 'a text or {"text": "A"}'),
        ("who?", "question-answering", 'is {"question": "A", "context": "B"}'),
        ('"who?"', "question-answering", 'is {"question": "A", "context": "B"}'),
        ("a", "next-sentence-prediction", 'is {"text": "A", "text_pair": "B"}'),
        (
            "a",
            "multiple-choice",
            'is {"prompt": "A", "choices": ["B", "C"]}, or a text with -o choices=…',
        ),
    ],
)
def test_another_form(line: str, task: str, message: str) -> None:
    found = refusal(line, task)
    assert found.endswith(message) or message in found
    # In the command line's terms, not Python's.
    assert "…}" not in found
    assert "question=" not in found


def test_an_option_in_place_of_a_part() -> None:
    assert parse_line("a", "multiple-choice", {"choices": ["b", "c"]}) == "a"


def test_words() -> None:
    options = {"is_split_into_words": True}
    words = parse_line('["New", "York"]', "token-classification", options)
    assert words == ["New", "York"]
    for line in ("New York", '{"text": "New York"}', '"New"'):
        message = refusal(line, "token-classification", **options)
        assert 'a line of words is a JSON list such as ["New", "York"]' in message


def test_json_strings() -> None:
    for line in ('"hello"', '"a \\u00e9"', b'"hello"'):
        assert is_json_string(line)
    for line in ("hello", '"a" "b"', '"a', "", b"", b'"\xff"', "5", '{"a": 1}'):
        assert not is_json_string(line)
