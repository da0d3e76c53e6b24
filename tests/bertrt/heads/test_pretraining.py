"""pretraining, compared with transformers' model and with each part's own head, and its errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertrt.errors import InputError

Agree = Callable[[Any, Any], None]
NAME = "BertForPreTraining"


@pytest.fixture(scope="module")
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact(NAME)


@pytest.fixture(scope="module")
def reference(make_checkpoint: Callable[..., Path]) -> Callable[..., tuple[Any, Any]]:
    """Return the best tokens and their scores at each mask, and the labels' scores, with numpy."""
    import torch
    import transformers

    folder = make_checkpoint(NAME)
    tokenizer = transformers.BertTokenizerFast.from_pretrained(folder)
    model = transformers.BertForPreTraining.from_pretrained(folder).eval()

    def answer(text: str, pair: str | None = None) -> tuple[Any, Any]:
        inputs = tokenizer(text, pair, return_tensors="pt", truncation=True)
        with torch.no_grad():
            outputs = model(**inputs)
        masks = np.flatnonzero(inputs["input_ids"][0].numpy() == tokenizer.mask_token_id)
        scores = outputs.prediction_logits[0].softmax(-1).numpy()[masks]
        tokens = np.argsort(-scores, axis=-1)[:, :5]
        order = outputs.seq_relationship_logits[0].softmax(-1).numpy()
        return [(scores[i, best], best) for i, best in enumerate(tokens)], order

    return answer


def compare(ours: Any, reference: Any) -> None:
    masks, order = reference
    if len(masks) == 1:
        ours = {**ours, "fill_mask": [ours["fill_mask"]]}
    assert len(ours["fill_mask"]) == len(masks)
    for answers, (scores, tokens) in zip(ours["fill_mask"], masks, strict=True):
        assert [answer["token"] for answer in answers] == tokens.tolist()
        assert [answer["score"] for answer in answers] == pytest.approx(scores.tolist(), abs=1e-4)
    if ours["next_sentence"] is not None:
        assert ours["next_sentence"]["label"] == ["is_next", "not_next"][order.argmax()]
        assert ours["next_sentence"]["score"] == pytest.approx(float(order.max()), abs=1e-4)


def test_every_text(rt: Any, reference: Any, texts: list[str]) -> None:
    pairs = [("[MASK] sat", text) if i % 2 else (text, "a [MASK]") for i, text in enumerate(texts)]
    answers = rt(pairs, truncation=True)
    assert len(answers) == len(pairs)
    for answer, pair in zip(answers, pairs, strict=True):
        assert list(answer) == ["fill_mask", "next_sentence"]
        assert answer["next_sentence"] is not None
        compare(answer, reference(*pair))
    json.dumps(answers)


def test_without_a_pair_or_a_mask(rt: Any, reference: Any) -> None:
    assert rt("the cat sat") == {"fill_mask": [], "next_sentence": None}
    single = rt("the [MASK] sat")
    assert single["next_sentence"] is None
    compare(single, reference("the [MASK] sat"))
    pair = rt("the cat sat", "on the mat")
    assert pair["fill_mask"] == []
    compare(pair, reference("the cat sat", "on the mat"))


@pytest.mark.parametrize("device", ["cpu", "any"])
def test_texts_with_and_without_masks_together(
    load_artifact: Callable[..., Any], reference: Any, device: str
) -> None:
    rt = load_artifact(NAME, device=device)
    texts = ["the cat", "the [MASK] sat", "[MASK] [MASK]", "a dog", "a cat sat on a [MASK]"]
    for text, answer in zip(texts, rt(texts), strict=True):
        if "[MASK]" in text:
            compare(answer, reference(text))
        else:
            assert answer["fill_mask"] == []
    assert [answer["fill_mask"] for answer in rt(["the cat", "a dog"])] == [[], []]


def test_several_masks(rt: Any, reference: Any) -> None:
    compare(
        rt("[MASK] cat [MASK]", "on the [MASK]"), reference("[MASK] cat [MASK]", "on the [MASK]")
    )


def test_fill_mask_equals_the_pipeline(
    rt: Any, pipeline_of: Callable[..., Any], agree: Agree
) -> None:
    """transformers' pipeline opens the same checkpoint as a BertForMaskedLM."""
    pipe = pipeline_of("fill-mask", NAME)
    assert type(pipe.model).__name__ == "BertForMaskedLM"
    for options in ({}, {"top_k": 2}, {"targets": ["cat", "dog"]}):
        for text in ("the [MASK] sat", "[MASK] sat on the [MASK]"):
            agree(rt(text, **options)["fill_mask"], pipe(text, **options))


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (("a", "b"), {"top_k": 0}, "top_k is 0"),
        (("a", "b"), {"targets": ["cat", None]}, "targets holds None"),
        (("a",), {"targets": ""}, "none of them is a token"),
        (("a", "b", "c"), {}, "got 3 inputs"),
        (([],), {}, "list of texts is empty"),
        ((None,), {}, "an input is NoneType"),
        (({"text": "a", "next": "b"},), {}, "an input is dict"),
        (("a " * 40, "b " * 40), {}, "the limit is 64"),
        (("\ud800", "b"), {}, "lone surrogate"),
        (("a",), {"labels": 1}, "pretraining has no option 'labels'"),
    ],
)
def test_refuses(rt: Any, args: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rt(*args, **options)
