"""Aggregate tokens and their label scores into entities, for token classification.

The rules are those of transformers' TokenClassificationPipeline. A word consists of a token and
the subwords that continue it. A group consists of consecutive tokens or words with the same tag; a
`B-` label starts a new one. Unlike there, the label `O` is not the tag of `B-O` and `I-O`, which
mark entities of a type that is called O.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["STRATEGIES", "Token", "aggregate", "resolve_overlaps"]

STRATEGIES = ("none", "simple", "first", "average", "max")

# The label of tokens outside of entities.
_OUTSIDE = "O"

Entity = dict[str, Any]
# Turns tokens into a string, as `Tokenizer.convert_tokens_to_string` does.
TokensToString = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Token:
    """A token of a text.

    Attributes:
        word: the token, such as "##ing"; an unknown token's text.
        scores: the probabilities of the labels, float32 [labels].
        index: its position among the tokens of its window.
        start, end: its position in the text, in characters.
        is_subword: whether it continues the word of the token before.
    """

    word: str
    scores: np.ndarray
    index: int
    start: int
    end: int
    is_subword: bool


@dataclass(frozen=True)
class LabeledSpan:
    """A token or a word, with its best label and that label's score."""

    label: str
    score: float
    word: str
    start: int
    end: int


def aggregate(
    tokens: Sequence[Token],
    strategy: str,
    labels: Sequence[str],
    tokens_to_string: TokensToString,
    ignored: Collection[str] = (),
) -> list[Entity]:
    """Return the entities of a text, in the order of the text; plain Python values.

    Args:
        tokens: the text's tokens, without special tokens.
        strategy: "none" gives `{entity, score, index, word, start, end}` for each token; the
            others give `{entity_group, score, word, start, end}` for each group. "simple" groups
            tokens. "first", "average" and "max" group words, and take a word's scores from its
            first token, from the mean of its tokens, or from the token with the highest score.
        labels: the model's labels.
        tokens_to_string: turns tokens into a string.
        ignored: what to leave out: labels with the strategy "none", names of groups with the
            others. "O" is what lies outside of entities, never a group of `B-O` and `I-O`.
    """
    if strategy in ("none", "simple"):
        spans = [_label([token], token.scores, labels, token.word) for token in tokens]
    else:
        spans = [
            _label(
                word,
                _word_scores(word, strategy),
                labels,
                tokens_to_string([token.word for token in word]),
            )
            for word in _group_words(tokens)
        ]
    if strategy == "none":
        return [
            {
                "entity": span.label,
                "score": span.score,
                "index": token.index,
                "word": span.word,
                "start": span.start,
                "end": span.end,
            }
            for token, span in zip(tokens, spans, strict=True)
            if span.label not in ignored
        ]
    groups = [group for group in _group_spans(spans) if not _is_ignored(group[0].label, ignored)]
    return [_merge(group, tokens_to_string) for group in groups]


def resolve_overlaps(entities: Sequence[Entity]) -> list[Entity]:
    """Return entities in the order of the text, without those that overlap a better one.

    Overlapping windows give overlapping entities. Of two the longer is kept, and of equally long
    ones the one with the higher score.
    """
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda entity: entity["start"]):
        if kept and entity["start"] < kept[-1]["end"]:
            kept[-1] = max(kept[-1], entity, key=_length_and_score)
        else:
            kept.append(entity)
    return kept


def _length_and_score(entity: Entity) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]


def _group_words(tokens: Sequence[Token]) -> list[list[Token]]:
    words: list[list[Token]] = []
    for token in tokens:
        if words and token.is_subword:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def _word_scores(word: Sequence[Token], strategy: str) -> np.ndarray:
    """Return the scores of a word's labels, float32 [labels]."""
    if strategy == "first":
        return word[0].scores
    if strategy == "max":
        return max(word, key=lambda token: token.scores.max()).scores
    mean: np.ndarray = np.stack([token.scores for token in word]).mean(axis=0)
    return mean


def _label(
    tokens: Sequence[Token], scores: np.ndarray, labels: Sequence[str], word: str
) -> LabeledSpan:
    best = int(scores.argmax())
    return LabeledSpan(labels[best], float(scores[best]), word, tokens[0].start, tokens[-1].end)


def _group_spans(spans: Sequence[LabeledSpan]) -> list[list[LabeledSpan]]:
    groups: list[list[LabeledSpan]] = []
    for span in spans:
        same_tag = groups and _tag(span.label) == _tag(groups[-1][-1].label)
        if same_tag and not span.label.startswith("B-"):
            groups[-1].append(span)
        else:
            groups.append([span])
    return groups


def _tag(label: str) -> str | None:
    """Return the tag of a label: `PER` for `B-PER` and `I-PER`; other labels are their own tag.

    None for `O`, which is outside of entities.
    """
    if label == _OUTSIDE:
        return None
    return label[2:] if label.startswith(("B-", "I-")) else label


def _group_name(label: str) -> str:
    # Not `_tag`: transformers splits at the first hyphen, whatever the prefix.
    return label.split("-", 1)[-1]


def _is_ignored(label: str, ignored: Collection[str]) -> bool:
    """Whether the group that starts with a label is left out."""
    name = _group_name(label)
    return name in ignored and (name != _OUTSIDE or label == _OUTSIDE)


def _merge(group: Sequence[LabeledSpan], tokens_to_string: TokensToString) -> Entity:
    return {
        "entity_group": _group_name(group[0].label),
        "score": float(np.mean([span.score for span in group])),
        "word": tokens_to_string([span.word for span in group]),
        "start": group[0].start,
        "end": group[-1].end,
    }
