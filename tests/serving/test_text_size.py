"""Texts are bounded in characters before they are tokenized, and keep their answers."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bertrt.heads.base import TokenIds
from bertrt.serving.errors import HttpError
from bertrt.serving.text_size import (
    bound_options,
    bound_texts,
    count_characters,
    most_characters,
)

MOST = most_characters(64)
# Words that are known, that have several pieces, accents, signs, no blanks between them, and more
# than the 100 characters of which a tokenizer makes one unknown token.
PIECES = [
    "the",
    "cat",
    "photosynthesis",
    "Café",
    "a" * 100,
    "b" * 101,
    "x" * 180,
    "猫猫",
    "!?",
    "ﬁn",
]


def make_text(seed: int, size: int) -> str:
    """Return a text of at least so many characters, whose words lie anywhere in it."""
    rng = random.Random(seed)
    text = " " * rng.randrange(60)
    while len(text) < size:
        text += rng.choice(PIECES) + " " * rng.choice([1, 1, 1, 2, 60])
    return text


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_cut_text_has_the_same_tokens(
    runtime: Callable[[str], Any], seed: int, side: str
) -> None:
    tokenizer = runtime("embedder").tokenizer
    text = make_text(seed, MOST + 1 + 37 * seed)
    [cut], count = bound_texts([text], MOST, side)
    assert (len(cut), count) == (MOST, 1)
    assert cut == (text[-MOST:] if side == "left" else text[:MOST])
    options = {"truncation": True, "truncation_side": side}
    whole, kept = tokenizer.encode(text, **options), tokenizer.encode(cut, **options)
    assert (len(whole), kept.ids) == (64, whole.ids)
    other = tokenizer.encode("the cat", text, **options).ids
    assert tokenizer.encode("the cat", cut, **options).ids == other


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_cut_within_a_word_changes_only_what_is_not_kept(
    runtime: Callable[[str], Any], side: str
) -> None:
    """Every token has the most characters that it may have, so the kept ones end late."""
    tokenizer = runtime("embedder").tokenizer
    for shift in range(0, 249, 31):
        wide = "cat" + " " * 246
        text = f"{'!' * shift}{wide * 70}" if side == "right" else f"{wide * 70}{'!' * shift}"
        [cut], _ = bound_texts([text], MOST, side)
        options = {"truncation": True, "truncation_side": side}
        whole = tokenizer.encode(text, **options).ids
        assert tokenizer.encode(cut, **options).ids == whole
        # 62 characters less a token, and a kept one would be missing: the bound is not loose.
        [less], _ = bound_texts([text], 61 * 249, side)
        assert shift or tokenizer.encode(less, **options).ids != whole


def test_what_is_cut_and_what_is_not() -> None:
    item = {"text": "a" * 9, "text_pair": None}
    assert bound_texts(["a" * 5, ("b", "c" * 7), item, 3], 5, "right") == (
        ["a" * 5, ("b", "c" * 5), {"text": "a" * 5, "text_pair": None}, 3],
        2,
    )
    for wrong in ("a" * 6, ("a", "b" * 6), {"context": "a" * 6}, ["abc", "def"]):
        with pytest.raises(HttpError, match="6 characters and the limit is 5"):
            bound_texts([wrong], 5, None)
    with pytest.raises(HttpError, match="a list of texts has 6"):
        bound_texts([["abc", "def"]], 5, "left")
    bound_options({"candidate_labels": ["a" * 5], "top_k": 3}, 5)
    for value in ("a" * 6, ["a", "b" * 6]):
        with pytest.raises(HttpError, match="`targets` has 6 characters"):
            bound_options({"targets": value}, 5)


@pytest.mark.parametrize("direction", ["Left", "Right"])
def test_answers(client: Callable[..., Any], runtime: Callable[[str], Any], direction: str) -> None:
    text = make_text(7, 3 * MOST)
    body = {"inputs": [text, "cat"], "truncation_direction": direction}
    answer = client("embedder").post("/embed", body)
    expected = runtime("embedder").embed(
        [text, "cat"], truncation=True, truncation_side=direction.lower()
    )
    np.testing.assert_allclose(answer.json, expected, atol=1e-5)
    assert answer.headers["x-bertrt-truncated"] == "1"
    # Nothing is cut silently, even where what is left has few tokens.
    blank = client("embedder").post("/embed", {"inputs": " " * MOST + "the cat"})
    assert blank.headers["x-bertrt-truncated"] == "1"


@pytest.mark.parametrize(
    ("model", "path", "body"),
    [
        ("embedder", "/embed", {"inputs": "a" * (MOST + 1), "truncate": False}),
        ("embedder", "/tokenize", {"inputs": "a" * (MOST + 1)}),
        ("reader", "/", {"inputs": {"question": "a", "context": "b" * (MOST + 1)}}),
        ("tagger", "/", {"inputs": "a" * (MOST + 1), "parameters": {"stride": 3}}),
        (
            "nli",
            "/",
            {"inputs": "a", "parameters": {"candidate_labels": ["x", "y" * (MOST + 1)]}},
        ),
    ],
)
def test_refused(client: Callable[..., Any], model: str, path: str, body: Any) -> None:
    answer = client(model).post(path, body)
    assert (answer.status, answer.json["error_type"]) == (422, "Validation")
    assert f"has {MOST + 1} characters and the limit is {MOST}: shorten it" in answer.json["error"]


@pytest.mark.parametrize(
    ("item", "count"),
    [
        ("héllo", 5),
        (("ab", "cde"), 5),
        ({"question": "ab", "context": "cde"}, 5),
        ({"text": "ab", "choices": ["c", "de"]}, 5),
        (["ab", "cde"], 5),
        (TokenIds((101, 7, 102)), 3),
        (3, 0),
        ([[[["deep"]]]], 0),
    ],
)
def test_characters_are_counted(item: Any, count: int) -> None:
    assert count_characters(item) == count
