"""fill-mask, compared with transformers' pipeline, and its errors."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from bertrt.errors import InputError
from bertrt.heads.fill_mask import FillMask
from bertrt.tokenizer import Tokenizer

Agree = Callable[[Any, Any], None]


@pytest.fixture(scope="module")
def rt(load_artifact: Callable[..., Any]) -> Any:
    return load_artifact("BertForMaskedLM")


@pytest.fixture(scope="module")
def pipe(pipeline_of: Callable[..., Any]) -> Any:
    return pipeline_of("fill-mask", "BertForMaskedLM")


def test_every_text(rt: Any, pipe: Any, agree: Agree, texts: list[str]) -> None:
    masked = [f"[MASK] {text}" for text in texts]
    expected = [pipe(text, tokenizer_kwargs={"truncation": True}) for text in masked]
    agree(rt(masked, truncation=True), expected)
    agree([rt(text, truncation=True) for text in masked], expected)


@pytest.mark.parametrize("top_k", [1, 2, 7, 1000])
def test_top_k(rt: Any, pipe: Any, agree: Agree, top_k: int) -> None:
    ours = rt("the cat [MASK] on the mat", top_k=top_k)
    vocabulary = len(rt.tokenizer.get_vocab())
    expected = pipe("the cat [MASK] on the mat", top_k=min(top_k, vocabulary))
    agree(ours[:20], expected[:20])
    assert len(ours) == len(expected)


@pytest.mark.parametrize("text", ["[MASK]", "[MASK] sat on [MASK] mat", "a [MASK][MASK][MASK] b"])
def test_several_masks_give_a_list_of_lists(rt: Any, pipe: Any, agree: Agree, text: str) -> None:
    agree(rt(text, top_k=3), pipe(text, top_k=3))


@pytest.mark.parametrize(
    "targets",
    ["cat", ["cat", "dog"], ("cat", "dog"), ["cat", "cat"], ["Cat", "zzz", "workings", ""], "🙂"],
)
def test_targets(rt: Any, pipe: Any, agree: Agree, targets: Any) -> None:
    text = "the [MASK] sat"
    agree(rt(text, targets=targets), pipe(text, targets=targets))
    agree(rt(text, targets=targets, top_k=1), pipe(text, targets=targets, top_k=1))
    agree(rt([text, "a [MASK]"], targets=targets), pipe([text, "a [MASK]"], targets=targets))


@pytest.mark.parametrize("device", ["cpu", "any"])
def test_texts_with_different_numbers_of_masks(
    load_artifact: Callable[..., Any], pipe: Any, agree: Agree, device: str
) -> None:
    rt = load_artifact("BertForMaskedLM", device=device)
    texts = [
        "[MASK] [MASK] [MASK]",
        "the [MASK] sat",
        "[MASK] sat on [MASK]",
        "the cat sat on the [MASK]",
        "a [MASK] " + "the cat [MASK] " * 30,  # most of it is truncated
        "[MASK]" * 60,
    ]
    truncation = {"truncation": True, "max_length": 12}
    expected = [pipe(text, tokenizer_kwargs=truncation, top_k=3) for text in texts]
    agree(rt(texts, top_k=3, **truncation), expected)
    agree([rt(text, top_k=3, **truncation) for text in texts], expected)


def test_a_list_of_one_text_gives_a_list(rt: Any, agree: Agree) -> None:
    agree(rt(["the [MASK] sat"]), [rt("the [MASK] sat")])


def test_tokenizer_kwargs_are_truncation_and_max_length(rt: Any, pipe: Any, agree: Agree) -> None:
    text = "the [MASK] " + "cat sat on the mat " * 30
    truncation = {"truncation": True, "max_length": 12}
    agree(rt(text, tokenizer_kwargs=truncation), pipe(text, tokenizer_kwargs=truncation))
    agree(rt(text, **truncation), pipe(text, tokenizer_kwargs=truncation))


def test_masks_in_both_texts_of_a_pair(rt: Any) -> None:
    left, right = rt("the [MASK] sat", "on the [MASK]", top_k=1)
    assert left[0]["sequence"].startswith("[CLS] the ")
    assert right[0]["sequence"].endswith(f"{right[0]['token_str']} [SEP]")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": True}, "top_k is True"),
        ({"top_k": 2.0}, r"top_k is 2\.0"),
        ({"top_k": -1}, "top_k is -1"),
        ({"targets": []}, "targets is empty"),
        ({"targets": ""}, "none of them is a token"),
        ({"targets": 5}, "targets is 5: give a list of strings"),
        ({"targets": ["cat", 5]}, "targets holds 5"),
        ({"targets": "\ud800"}, "lone surrogate"),
        ({"tokenizer_kwargs": {"padding": True}}, "tokenizer_kwargs is {'padding': True}"),
        ({"tokenizer_kwargs": 5}, "tokenizer_kwargs is 5"),
        ({"truncation": "first"}, "truncation is 'first'"),
        ({"max_length": 65}, "reads at most 64"),
        ({"function_to_apply": "none"}, "no option 'function_to_apply'"),
    ],
)
def test_refuses_options(rt: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rt("the [MASK] sat", **options)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("the cat", {}, r"the text has no \[MASK\]: 'the cat'"),
        (["the [MASK]", "the cat"], {}, r"no \[MASK\]: 'the cat'"),
        ("a " * 70 + "[MASK]", {"truncation": True}, r"no \[MASK\] after truncation"),
        ("a " * 70 + "[MASK]", {}, "has 73 tokens and the limit is 64"),
        ({"text": ["the", "[MASK]"]}, {}, r"text is \['the', '\[MASK\]'\]: give a string"),
        ({"text": None}, {}, "text is None"),
    ],
)
def test_refuses_texts(rt: Any, text: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rt(text, **options)


@pytest.mark.parametrize("text", ["the [MASK] sat", "the cat"])
def test_a_mask_that_is_plain_text(rt: Any, text: str) -> None:
    """With `split_special_tokens` no text has a mask token, and the error says why."""
    path = rt._artifact.path / "tokenizer.json"
    state = json.loads(path.read_text(encoding="utf-8"))
    state["added_tokens"] = []
    facts = dataclasses.replace(rt.tokenizer.facts, golden=())
    head = FillMask(Tokenizer(json.dumps(state), facts), rt._artifact.config)
    (input,), _ = head.read_inputs(text)
    with pytest.raises(
        InputError, match=r"no text can have a \[MASK\], because split_special_token"
    ):
        head.prepare(input, head.parse_options({}))
    assert not rt.tokenizer.mask_is_text
