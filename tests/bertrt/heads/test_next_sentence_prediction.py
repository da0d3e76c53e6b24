"""next-sentence-prediction, compared with transformers' model, and its errors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertrt.errors import InputError
from bertrt.heads.base import TextPair
from bertrt.heads.next_sentence_prediction import NextSentencePrediction

Agree = Callable[[Any, Any], None]
NAME = "BertForNextSentencePrediction"


@pytest.fixture(scope="module")
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact(NAME)


@pytest.fixture(scope="module")
def reference(make_checkpoint: Callable[..., Path]) -> Callable[..., dict[str, Any]]:
    """Run transformers' tokenizer and model, and take the likelier label with numpy."""
    import torch
    import transformers

    folder = make_checkpoint(NAME)
    tokenizer = transformers.BertTokenizerFast.from_pretrained(folder)
    model = transformers.BertForNextSentencePrediction.from_pretrained(folder).eval()

    def answer(text: str, pair: str, **options: Any) -> dict[str, Any]:
        inputs = tokenizer(text, pair, return_tensors="pt", **{"truncation": True, **options})
        with torch.no_grad():
            logits = model(**inputs).logits[0].numpy()
        probabilities = np.exp(logits) / np.exp(logits).sum()
        best = probabilities.argmax()
        return {"label": ["is_next", "not_next"][best], "score": float(probabilities[best])}

    return answer


def test_every_text(rt: Any, reference: Any, agree: Agree, texts: list[str]) -> None:
    pairs = list(zip(texts, texts[1:] + texts[:1], strict=True))
    expected = [reference(*pair) for pair in pairs]
    assert len({round(answer["score"], 3) for answer in expected}) > 10
    agree(rt(pairs, truncation=True), expected)
    agree([rt(*pair, truncation=True) for pair in pairs], expected)


def test_forms_of_input(rt: Any, reference: Any, agree: Agree) -> None:
    expected = reference("the cat sat", "on the mat")
    pair = {"text": "the cat sat", "text_pair": "on the mat"}
    agree(rt("the cat sat", "on the mat"), expected)
    agree(rt(("the cat sat", "on the mat")), expected)
    agree(rt(pair), expected)
    agree(rt([pair]), [expected])
    agree(list(rt(iter([("the cat sat", "on the mat"), pair]))), [expected, expected])


@pytest.mark.parametrize(
    ("logits", "label", "score"),
    [
        ([1.0, 0.0], "is_next", 0.7310586),
        ([-3.0, 1.0], "not_next", 0.9820138),
        ([200.0, -200.0], "is_next", 1.0),
        ([2.0, 2.0], "is_next", 0.5),
    ],
)
def test_the_first_logit_means_that_b_follows_a(
    rt: Any, logits: list[float], label: str, score: float
) -> None:
    head = NextSentencePrediction(rt.tokenizer, rt._artifact.config)
    options = head.parse_options({})
    prepared = head.prepare(TextPair("a", "b"), options)
    answer = head.finish(prepared, [{"logits": np.array(logits, np.float32)}], options)
    assert answer == {"label": label, "score": pytest.approx(score, abs=1e-6)}


def test_the_order_of_the_pair_matters(rt: Any) -> None:
    assert rt("the cat sat", "on the mat") != rt("on the mat", "the cat sat")


def test_truncation(rt: Any, reference: Any, agree: Agree) -> None:
    long = "the cat sat on the mat " * 20
    for options in ({"max_length": 17}, {"truncation": "only_first", "max_length": 17}):
        options = {"truncation": True, **options}
        agree(rt(long, "it was a dog", **options), reference(long, "it was a dog", **options))


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (("the cat",), {}, "got the single text 'the cat'"),
        ((["the cat", "sat"],), {}, "got the single text 'the cat'"),
        (([("the cat", "sat"), "a"],), {}, "got the single text 'a'"),
        (({"text": "the cat"},), {}, "single text"),
        (({"text": "the cat", "text_pair": None},), {}, "single text"),
        ((("the", "cat", "sat"),), {}, "an input is tuple"),
        (("the", "cat", "sat"), {}, "got 3 inputs"),
        (("the cat", 5), {}, "got 2 inputs"),
        ((["a"], ["b"]), {}, "got 2 inputs"),
        ((["the cat", 5],), {}, "an input is int"),
        (([],), {}, "list of texts is empty"),
        (("a " * 40, "b " * 40), {}, "83 tokens and the limit is 64"),
        (("a", "\ud800"), {}, "lone surrogate"),
        (("a", "b"), {"top_k": 1}, "no option 'top_k'"),
        (("a", "b"), {"truncation": 1.5}, r"truncation is 1\.5"),
    ],
)
def test_refuses(rt: Any, args: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rt(*args, **options)
