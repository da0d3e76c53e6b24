"""zero-shot-classification, compared with transformers' pipeline, and its errors."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.errors import InputError
from bertrt.heads.zero_shot_classification import ZeroShotClassification, entailment_id

Agree = Callable[[Any, Any], None]
NAME = "BertForSequenceClassification"
LABELS = ["politics", "sports", "science", "a good film"]
TEXT = "the president of the united states"
LARGE = np.array([-9e3, 0, 9e3], np.float32)


@pytest.fixture(scope="module")
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact(NAME)


@pytest.fixture(scope="module")
def pipe(pipeline_of: Callable[..., Any]) -> Any:
    return pipeline_of("zero-shot-classification", NAME)


def test_every_text(rt: Any, pipe: Any, agree: Agree, texts: list[str]) -> None:
    texts = [text for text in texts if text]  # an empty text is an error, in transformers too
    expected = pipe(texts, candidate_labels=LABELS[:2])
    agree(rt(texts, candidate_labels=LABELS[:2], truncation=True), expected)


@pytest.mark.parametrize(
    "labels",
    [
        "politics",
        "politics, sports",
        " politics ,, sports,",
        ["politics"],
        ["politics", "politics"],
        ["sports", ""],
        ["🙂", "中国", "café"],
        [f"{word} {sign}" for word in LABELS for sign in "!?.,;:"],
    ],
)
@pytest.mark.parametrize("multi_label", [False, True])
def test_labels(rt: Any, pipe: Any, agree: Agree, labels: Any, multi_label: bool) -> None:
    options = {"candidate_labels": labels, "multi_label": multi_label}
    agree(rt(TEXT, **options), pipe(TEXT, **options))
    agree(rt([TEXT, "a"], **options), pipe([TEXT, "a"], **options))


@pytest.mark.parametrize("template", ["{}", "about {}", "{0} {0} !", "in {{}} of {}", "{:>9}."])
def test_templates(rt: Any, pipe: Any, agree: Agree, template: str) -> None:
    options = {"candidate_labels": [*LABELS, ""], "hypothesis_template": template}
    agree(rt(TEXT, **options), pipe(TEXT, **options))


def test_only_the_text_is_truncated(rt: Any, pipe: Any, agree: Agree) -> None:
    text = "the cat sat on the mat " * 30
    with pytest.raises(InputError, match=r"limit is 64: .* or pass truncation='only_first'$"):
        rt(text, candidate_labels=LABELS)
    agree(rt(text, candidate_labels=LABELS, truncation=True), pipe(text, candidate_labels=LABELS))


@pytest.mark.parametrize("text", ["a", "the cat sat on the mat " * 30])
@pytest.mark.parametrize("truncation", [False, True, "only_first"])
def test_a_label_that_leaves_no_room_for_the_text(rt: Any, text: str, truncation: Any) -> None:
    """Truncating the text would not help, so the error does not advise it."""
    labels = ["art", "the cat sat on the mat " * 30]
    options = {"candidate_labels": labels, "truncation": truncation}
    with pytest.raises(InputError) as caught:
        rt([text], **options)
    message = str(caught.value)
    assert message.startswith("the hypothesis of the label 'the cat sat on the mat ")
    assert message.endswith(
        "which leaves no room for a text: with 3 special tokens the limit is 64: shorten the label "
        "or hypothesis_template"
    )
    assert "truncation" not in message


def test_a_label_that_leaves_room_for_one_token(rt: Any) -> None:
    """The message is right at the boundary, in the number of tokens too."""
    labels = ["the cat sat on the mat"]
    hypothesis = rt.tokenize("This example is the cat sat on the mat.")["input_ids"][0]
    room = len(hypothesis) - 2 + 3 + 1
    options = {"candidate_labels": labels, "truncation": True}
    assert rt("the cat sat", **options, max_length=room)["labels"] == labels
    with pytest.raises(InputError, match=rf"has {len(hypothesis) - 2} tokens.*limit is {room - 1}"):
        rt("the cat sat", **options, max_length=room - 1)
    with pytest.raises(InputError, match=r"has 6 tokens and the limit is 5: .*'only_first'"):
        rt("the cat", candidate_labels=["a"], hypothesis_template="{}", max_length=5)
    with pytest.raises(InputError, match="max_length is 3, which leaves no room for text beside 3"):
        rt("the cat sat", candidate_labels=labels, max_length=3)
    # With another strategy the hypothesis is cut, as the caller asked.
    assert rt("a", candidate_labels=labels, truncation="longest_first", max_length=8)["labels"]


def test_labels_as_the_second_argument(rt: Any, pipe: Any, agree: Agree, tmp_path: Path) -> None:
    with bertrt.load(rt._artifact.path, task="zero-shot-classification") as zero_shot:
        assert zero_shot.info["task"] == "zero-shot-classification"
        agree(zero_shot(TEXT, LABELS), pipe(TEXT, LABELS))
        agree(zero_shot(TEXT, "politics, sports"), pipe(TEXT, "politics, sports"))
        agree(zero_shot(TEXT, candidate_labels=LABELS), pipe(TEXT, LABELS))
        answers = list(zero_shot(iter([TEXT, "a"]), candidate_labels=LABELS))
        agree(answers, pipe([TEXT, "a"], LABELS))
        with pytest.raises(InputError, match="got 1 inputs and no labels"):
            zero_shot(TEXT)


def test_without_candidate_labels_it_classifies(rt: Any) -> None:
    assert rt(TEXT)[0]["label"] in rt.info["labels"]


def test_entailment_id(rt: Any) -> None:
    config = rt._artifact.config

    def config_with(*labels: str) -> Any:
        return dataclasses.replace(config, labels=labels)

    assert entailment_id(config_with("CONTRADICTION", "NEUTRAL", "ENTAILMENT")) == 2
    assert entailment_id(config_with("entailed", "not_entailed")) == 0
    with pytest.raises(InputError, match=r"labels are \['NEGATIVE', 'POSITIVE'\]"):
        entailment_id(config_with("NEGATIVE", "POSITIVE"))


def test_entailment_as_the_first_label(
    rt: Any, pipe: Any, agree: Agree, monkeypatch: pytest.MonkeyPatch
) -> None:
    label2id = {"entailment": 0, "neutral": 1, "contradiction": 2}
    config = dataclasses.replace(rt._artifact.config, labels=tuple(label2id))
    head = ZeroShotClassification(rt.tokenizer, config)
    monkeypatch.setattr(pipe.model.config, "label2id", label2id)
    for options in ({}, {"multi_label": True}):
        inputs, _ = head.read_inputs([TEXT], LABELS)
        answers = head.answer(inputs, rt._runner, head.parse_options(options))
        agree(answers, pipe([TEXT], LABELS, **options))


def test_large_logits_do_not_overflow(rt: Any) -> None:
    class LargeLogits:
        def run_encodings(self, encodings: Any, **_: Any) -> Any:
            return ((i, {"logits": LARGE}) for i in range(len(encodings)))

    head = ZeroShotClassification(rt.tokenizer, rt._artifact.config)
    inputs, _ = head.read_inputs([TEXT], LABELS)
    for multi_label, score in ((False, 0.25), (True, 1.0)):
        options = head.parse_options({"multi_label": multi_label})
        (answer,) = head.answer(inputs, LargeLogits(), options)  # type: ignore[arg-type]
        assert answer["scores"] == [score] * 4


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((TEXT,), {"candidate_labels": []}, "candidate_labels is empty"),
        ((TEXT,), {"candidate_labels": ""}, "candidate_labels is empty"),
        ((TEXT,), {"candidate_labels": " , "}, "candidate_labels is empty"),
        ((TEXT,), {"candidate_labels": None}, "candidate_labels is None"),
        ((TEXT,), {"candidate_labels": 5}, "candidate_labels is 5"),
        ((TEXT,), {"candidate_labels": ["a", 5]}, "candidate_labels holds 5"),
        ((TEXT,), {"candidate_labels": ["\ud800"]}, "lone surrogate"),
        ((), {}, "got 0 inputs"),
        ((TEXT, TEXT), {}, "got 2 inputs"),
        (("",), {}, "a text is empty"),
        (([TEXT, ""],), {}, "a text is empty"),
        (([],), {}, "list of texts is empty"),
        ((5,), {}, r"an input is int \(5\)"),
        (([("a", "b")],), {}, "an input is tuple"),
        (({"text": "a"},), {}, "an input is dict"),
        ((TEXT,), {"hypothesis_template": "about it"}, "no place for a label"),
        ((TEXT,), {"hypothesis_template": "{{}}"}, "no place for a label"),
        ((TEXT,), {"hypothesis_template": "{} {}"}, "a single {}"),
        ((TEXT,), {"hypothesis_template": "{label}"}, "a single {}"),
        ((TEXT,), {"hypothesis_template": "{"}, "a single {}"),
        ((TEXT,), {"hypothesis_template": "{:d}"}, "a single {}"),
        ((TEXT,), {"hypothesis_template": "{0.x}"}, "a single {}"),
        ((TEXT,), {"hypothesis_template": None}, "hypothesis_template is None"),
        ((TEXT,), {"multi_label": 1}, "multi_label is 1"),
        ((TEXT,), {"multi_class": True}, "no option 'multi_class'"),
        ((TEXT,), {"top_k": 1}, "zero-shot-classification has no option 'top_k'"),
    ],
)
def test_refuses(rt: Any, args: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rt(*args, **{"candidate_labels": LABELS, **options})
