"""Aggregation of tokens into entities, on small examples by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bertrt.heads.aggregation import Token, aggregate, resolve_overlaps

LABELS = ["O", "B-PER", "I-PER", "LOC", "X-LOC"]


def make_tokens(text: str, labels: Sequence[str]) -> list[Token]:
    """Make tokens from a text split at spaces, in which `+` marks a subword."""
    result = []
    start = 0
    for index, (word, label) in enumerate(zip(text.split(), labels, strict=True)):
        token = word.removeprefix("+")
        is_subword = token != word
        start += 0 if is_subword else 1
        scores = np.full(len(LABELS), 0.1, np.float32)
        scores[LABELS.index(label)] = 0.5 + index / 100
        result.append(Token(token, scores, index, start, start + len(token), is_subword))
        start += len(token)
    return result


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        (["B-PER", "I-PER", "O"], ["PER", "O"]),
        (["B-PER", "B-PER", "I-PER"], ["PER", "PER"]),
        (["I-PER", "I-PER", "B-PER"], ["PER", "PER"]),
        (["O", "O", "LOC"], ["O", "LOC"]),
        (["I-PER", "O", "I-PER"], ["PER", "O", "PER"]),
        # X-LOC is its own tag, but the answer drops what precedes its hyphen.
        (["LOC", "X-LOC", "X-LOC"], ["LOC", "LOC"]),
    ],
)
def test_simple_groups_tokens_with_the_same_tag(labels: list[str], groups: list[str]) -> None:
    entities = aggregate(make_tokens("a b c", labels), "simple", LABELS, " ".join)
    assert [entity["entity_group"] for entity in entities] == groups
    assert " ".join(entity["word"] for entity in entities) == "a b c"


def test_ignored_names() -> None:
    tokens = make_tokens("a b c d", ["O", "B-PER", "I-PER", "X-LOC"])

    def words(strategy: str, ignored: Sequence[str]) -> list[str]:
        return [e["word"] for e in aggregate(tokens, strategy, LABELS, " ".join, ignored)]

    assert words("simple", ["O"]) == ["b c", "d"]
    assert words("first", ["LOC", "I-PER"]) == ["a", "b c"]
    assert words("none", ["I-PER", "PER", "LOC"]) == ["a", "b", "d"]


def test_strategies_score_words() -> None:
    tokens = make_tokens("micro +soft com +pany", ["B-PER", "LOC", "I-PER", "LOC"])

    def group(strategy: str) -> list[tuple[str, float]]:
        entities = aggregate(tokens, strategy, LABELS, "".join)
        return [(entity["entity_group"], round(entity["score"], 4)) for entity in entities]

    assert group("first") == [("PER", 0.51)]
    assert group("max") == [("LOC", 0.52)]
    assert group("average") == [("LOC", 0.31)]
    assert group("simple") == [("PER", 0.5), ("LOC", 0.51), ("PER", 0.52), ("LOC", 0.53)]
    assert aggregate([], "first", LABELS, "".join) == []


def test_resolve_overlaps() -> None:
    def make_entity(start: int, end: int, score: float) -> dict[str, Any]:
        return {"entity_group": "PER", "score": score, "word": "", "start": start, "end": end}

    short, long, better = make_entity(0, 4, 0.9), make_entity(2, 8, 0.1), make_entity(2, 8, 0.2)
    after, apart = make_entity(8, 9, 0.5), make_entity(20, 21, 0.5)
    assert resolve_overlaps([]) == []
    assert resolve_overlaps([short, long]) == [long]
    assert resolve_overlaps([long, better]) == [better]
    assert resolve_overlaps([better, long]) == [better]
    assert resolve_overlaps([apart, short, after]) == [short, after, apart]
    # In a chain of overlaps, the entity that was kept is compared with the next one.
    assert resolve_overlaps([short, long, make_entity(7, 9, 0.9), apart]) == [long, apart]
