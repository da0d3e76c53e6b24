"""multiple-choice, compared with transformers' model, and its errors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertrt.errors import InputError

Agree = Callable[[Any, Any], None]
NAME = "BertForMultipleChoice"
PROMPT = "the cat sat on the mat"
CHOICES = ["it was a dog", "a", "plants create oxygen through a process", "no!"]


@pytest.fixture(scope="module")
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact(NAME)


@pytest.fixture(scope="module")
def reference(make_checkpoint: Callable[..., Path]) -> Callable[..., list[dict[str, Any]]]:
    """Run all choices in one batch [1, C, S], padded, as transformers' documentation does."""
    import torch
    import transformers

    folder = make_checkpoint(NAME)
    tokenizer = transformers.BertTokenizerFast.from_pretrained(folder)
    model = transformers.BertForMultipleChoice.from_pretrained(folder).eval()

    def answer(prompt: str, choices: list[str], **options: Any) -> list[dict[str, Any]]:
        options = {"truncation": True, **options}
        inputs = tokenizer(
            [prompt] * len(choices), choices, return_tensors="pt", padding=True, **options
        )
        with torch.no_grad():
            logits = model(**{k: v.unsqueeze(0) for k, v in inputs.items()}).logits[0].numpy()
        scores = (np.exp(logits) / np.exp(logits).sum()).tolist()
        order = sorted(range(len(choices)), key=lambda i: -scores[i])
        return [{"choice": i, "text": choices[i], "score": scores[i]} for i in order]

    return answer


def test_every_text(rt: Any, reference: Any, agree: Agree, texts: list[str]) -> None:
    questions = [
        {"prompt": text, "choices": [texts[i - 1], "the cat", texts[i - 2]]}
        for i, text in enumerate(texts)
    ]
    expected = [reference(**question) for question in questions]
    assert {answer[0]["choice"] for answer in expected} == {0, 1, 2}
    agree(rt(questions, truncation=True), expected)
    agree([rt(question, truncation=True) for question in questions], expected)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_any_number_of_choices(rt: Any, reference: Any, agree: Agree, count: int) -> None:
    choices = [f"{'run ' * i}sun" for i in range(count)]
    agree(rt(PROMPT, choices=choices), reference(PROMPT, choices))


def test_a_single_choice_has_score_1(rt: Any) -> None:
    assert rt(PROMPT, choices=["a"]) == [{"choice": 0, "text": "a", "score": 1.0}]


def test_equal_choices_keep_their_order(rt: Any) -> None:
    answers = rt(PROMPT, choices=["a", "a", "a"])
    assert [answer["choice"] for answer in answers] == [0, 1, 2]


def test_an_empty_choice(rt: Any, reference: Any, agree: Agree) -> None:
    agree(rt(PROMPT, choices=["", "a"]), reference(PROMPT, ["", "a"]))
    agree(rt("", choices=["", "a"]), reference("", ["", "a"]))


def test_forms_of_input(rt: Any, reference: Any, agree: Agree) -> None:
    expected = reference(PROMPT, CHOICES)
    question = {"prompt": PROMPT, "choices": CHOICES}
    agree(rt(PROMPT, choices=CHOICES), expected)
    agree(rt(PROMPT, choices=tuple(CHOICES)), expected)
    agree(rt(question), expected)
    agree(rt([question]), [expected])
    agree(rt([PROMPT, "a"], choices=CHOICES), [expected, reference("a", CHOICES)])
    agree(list(rt(iter([PROMPT]), choices=CHOICES)), [expected])


def test_truncation(rt: Any, reference: Any, agree: Agree) -> None:
    long = "the cat sat on the mat " * 20
    for options in ({"truncation": True}, {"truncation": "only_first", "max_length": 20}):
        agree(rt(long, choices=CHOICES, **options), reference(long, CHOICES, **options))


@pytest.mark.parametrize("truncation", [False, "only_first"])
def test_a_choice_that_leaves_no_room_for_the_prompt(rt: Any, truncation: Any) -> None:
    long = "the cat sat on the mat " * 20
    count = r"the choice 'the cat sat .* has 120 tokens, which leaves no room for a text: "
    for prompt in (PROMPT, long):
        with pytest.raises(InputError, match=f"{count}.* limit is 64: shorten it$"):
            rt(prompt, choices=["a", long], truncation=truncation)
    rt(PROMPT, choices=["a", long], truncation=True)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((PROMPT,), {}, "has no choices"),
        ((PROMPT,), {"choices": None}, "has no choices"),
        ((PROMPT,), {"choices": []}, "choices is empty"),
        ((PROMPT,), {"choices": "a"}, "choices is 'a': give a list"),
        ((PROMPT,), {"choices": ["a", 5]}, "choices holds 5"),
        (([PROMPT],), {"choices": [["a", "b"]]}, "choices holds"),
        ((PROMPT,), {"choices": ["a", "\ud800"]}, "lone surrogate"),
        ((PROMPT,), {"choices": ["a", "b " * 70]}, "the limit is 64"),
        ((PROMPT, ["a", "b"]), {}, "got 2 inputs"),
        ((), {"choices": ["a"]}, "got 0 inputs"),
        (([],), {"choices": ["a"]}, "list of prompts is empty"),
        ((5,), {"choices": ["a"]}, r"an input is int \(5\)"),
        (({"prompt": PROMPT},), {}, "an input is dict"),
        (({"prompt": PROMPT, "choices": ["a"]},), {"choices": ["b"]}, "given twice"),
        (({"prompt": 5, "choices": ["a"]},), {}, r"an input is int \(5\)"),
        (([{"prompt": PROMPT, "choices": ["a"]}, PROMPT],), {}, "has no choices"),
        ((PROMPT,), {"choices": ["a"], "top_k": 1}, "no option 'top_k'"),
    ],
)
def test_refuses(rt: Any, args: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rt(*args, **options)
