"""The lines of `bertrt run`: each task's form, and what is said about another."""

import json
from typing import Any

import pytest

from bertrt.cli.json_lines import FORMS, describe_forms, load_json, note_on_text, parse_line
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


@pytest.mark.parametrize(
    "line", ["[1]", "[]", "null", "true", "42", "-1.5e3", ' "hello"', '"a \\u00e9"']
)
def test_json_that_is_taken_as_text_is_noted(line: str) -> None:
    assert parse_line(line, "fill-mask", {}) == line
    assert note_on_text(line, "fill-mask", {}) == (
        "is JSON, and is taken as text as it stands: a line for fill-mask is a text or "
        '{"text": "A", "text_pair": "B"} (text_pair may be missing)'
    )
    assert note_on_text(line, "question-answering", {}) is None
    assert note_on_text(line, "token-classification", {"is_split_into_words": True}) is None


@pytest.mark.parametrize(
    "line",
    ["{bad", "{a} [MASK] {", '{"text": ', '["New", "York"', '[{"text": "a"', '{"a": NaN}', " {"],
)
def test_what_looks_like_json_is_noted(line: str) -> None:
    assert parse_line(line, "token-classification", {}) == line
    note = note_on_text(line, "token-classification", {})
    assert note is not None
    assert note.startswith("looks like JSON, but is none, and is taken as text: a line for token-")
    assert note == note_on_text("{", "token-classification", {})


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        "",
        "[MASK]",
        "[MASK] is",
        "[1] See there.",
        '"a" "b"',
        '"a',
        "2024 was",
        "NaN",
        "nul",
    ],
)
def test_plain_texts_are_not_noted(line: str) -> None:
    assert parse_line(line, "fill-mask", {}) == line
    assert note_on_text(line, "fill-mask", {}) is None


@pytest.mark.parametrize("line", ['{"text": "a"}', '{"label": 1}', '["a"]', "[[1]]", "[{}]"])
def test_lines_that_are_no_texts_are_not_noted(line: str) -> None:
    assert note_on_text(line, "fill-mask", {}) is None


@pytest.mark.parametrize("task", FORMS)
def test_parts_of_another_type(task: str) -> None:
    """They are refused here, in the line's terms, before a head refuses them in Python's."""
    form = FORMS[task]
    for key in form.example:
        for wrong in (5, True, {}, [5], ["a"] if isinstance(form.example[key], str) else "a"):
            message = refusal(json.dumps({**form.example, key: wrong}), task)
            assert json.dumps(form.example) in message
        empty = json.dumps({**form.example, key: None})
        if key in form.optional:
            assert parse_line(empty, task, {})[key] is None
        else:
            assert json.dumps(form.example) in refusal(empty, task)


@pytest.mark.parametrize(
    ("line", "task", "options"),
    [
        (
            {"text": "a", "candidate_labels": ["b", "c"]},
            "zero-shot-classification",
            {"candidate_labels": ["b", "c"]},
        ),
        (
            {"sequence": "a", "candidate_labels": "b,c"},
            "text-classification",
            {"candidate_labels": "b,c"},
        ),
        ({"text": "a", "delimiter": ""}, "token-classification", {"delimiter": ""}),
        ({"text": "a", "candidate_labels": "b,c"}, "fill-mask", {}),
        ({"text": "a", "label": 1}, "fill-mask", {}),
    ],
)
def test_inputs_inside_a_line(line: Any, task: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        parse_line(json.dumps(line), task, {})
    assert caught.value.options == options
    assert caught.value.problem.endswith("; for all lines, pass") == bool(options)


def test_inputs_that_are_options_are_those_of_the_heads() -> None:
    for task, form in FORMS.items():
        inputs = {*HEADS[task].input_names} - form.example.keys()
        if task == "text-classification":
            inputs |= {"candidate_labels"}
        assert form.for_all == inputs, task


def test_json() -> None:
    assert load_json('{"a": [1, null]}') == {"a": [1, None]}
    for text in ("NaN", "-Infinity", "[NaN]", "[" * 100_000, "", "a"):
        with pytest.raises(ValueError, match=r"JSON|deep|Expecting"):
            load_json(text)
