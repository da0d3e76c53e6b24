"""Tokens and their label scores to entities: the aggregation strategies of token classification.

The rules are those of transformers' TokenClassificationPipeline. A word is its first token and
those that continue it; a group is a run of tokens or words with the same tag, where a `B-` label
starts a new one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["STRATEGIES", "Token", "aggregate", "resolve_overlaps"]

STRATEGIES = ("none", "simple", "first", "average", "max")

Entity = dict[str, Any]
# Tokens to the text that they stand for.
Join = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Token:
    """A token of a text: what it reads, its place among the tokens and in the text's characters.

    `scores` is float32 [labels], and `is_subword` says that it continues the token before.
    """

    word: str
    scores: np.ndarray
    index: int
    start: int
    end: int
    is_subword: bool


@dataclass(frozen=True)
class Piece:
    """A token or a word with its one label."""

    label: str
    score: float
    word: str
    start: int
    end: int


def aggregate(
    tokens: Sequence[Token], strategy: str, labels: Sequence[str], join: Join
) -> list[Entity]:
    """The entities of a text's tokens, in the order of the text.

    Args:
        tokens: the text's tokens, special tokens left out.
        strategy: "none" gives `{entity, score, index, word, start, end}` for each token; the
            others `{entity_group, score, word, start, end}` for each group. "simple" groups
            tokens; "first", "average" and "max" group words, and take a word's scores from its
            first token, from the mean of its tokens, or from the token with the highest score.
        labels: the model's labels.
        join: the text of a list of tokens.

    Returns entities with plain Python values.
    """
    if strategy == "none":
        return [
            {
                "entity": piece.label,
                "score": piece.score,
                "index": token.index,
                "word": piece.word,
                "start": piece.start,
                "end": piece.end,
            }
            for token in tokens
            for piece in [_piece([token], token.scores, labels, token.word)]
        ]
    if strategy == "simple":
        pieces = [_piece([token], token.scores, labels, token.word) for token in tokens]
    else:
        pieces = [
            _piece(word, _scores(word, strategy), labels, join([token.word for token in word]))
            for word in _words(tokens)
        ]
    return [_entity(group, join) for group in _groups(pieces)]


def resolve_overlaps(entities: Sequence[Entity]) -> list[Entity]:
    """Of entities that overlap, found in windows that do, the longest; of equals the best scored.

    Returns them in the order of the text.
    """
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda one: one["start"]):
        if kept and entity["start"] < kept[-1]["end"]:
            kept[-1] = max(
                kept[-1], entity, key=lambda one: (one["end"] - one["start"], one["score"])
            )
        else:
            kept.append(entity)
    return kept


def _words(tokens: Sequence[Token]) -> list[list[Token]]:
    words: list[list[Token]] = []
    for token in tokens:
        if words and token.is_subword:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def _scores(word: Sequence[Token], strategy: str) -> np.ndarray:
    """A word's label scores [labels]."""
    if strategy == "first":
        return word[0].scores
    if strategy == "max":
        return max(word, key=lambda token: token.scores.max()).scores
    mean: np.ndarray = np.stack([token.scores for token in word]).mean(axis=0)
    return mean


def _piece(tokens: Sequence[Token], scores: np.ndarray, labels: Sequence[str], word: str) -> Piece:
    best = int(scores.argmax())
    return Piece(labels[best], float(scores[best]), word, tokens[0].start, tokens[-1].end)


def _groups(pieces: Sequence[Piece]) -> list[list[Piece]]:
    groups: list[list[Piece]] = []
    for piece in pieces:
        same = groups and _tag(piece.label) == _tag(groups[-1][-1].label)
        if same and not piece.label.startswith("B-"):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _tag(label: str) -> str:
    """`PER` of `B-PER` and `I-PER`; a label of another form is a tag by itself."""
    return label[2:] if label.startswith(("B-", "I-")) else label


def _entity(group: Sequence[Piece], join: Join) -> Entity:
    return {
        # Not `_tag`: transformers cuts at the first hyphen whatever stands before it.
        "entity_group": group[0].label.split("-", 1)[-1],
        "score": float(np.mean([piece.score for piece in group])),
        "word": join([piece.word for piece in group]),
        "start": group[0].start,
        "end": group[-1].end,
    }
