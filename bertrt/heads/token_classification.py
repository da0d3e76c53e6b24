"""`token-classification` (BertForTokenClassification): a label for each token, or entities.

Follows transformers' TokenClassificationPipeline. docs/guides/differences.md lists where it does
not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertrt.checks import check_flag, check_strings, check_whole
from bertrt.errors import InputError, shorten
from bertrt.heads.aggregation import STRATEGIES, Token, aggregate, resolve_overlaps
from bertrt.heads.base import Head, Options, Prepared
from bertrt.heads.request import Answer, SampleOutputs
from bertrt.heads.scores import softmax
from bertrt.heads.truncation import truncation_kwargs
from bertrt.tokenizer import Encoding

__all__ = ["TokenClassification", "TokenClassificationOptions"]


@dataclass(frozen=True, kw_only=True)
class TokenClassificationOptions(Options):
    """Options of token-classification.

    Attributes:
        aggregation_strategy: "none", "simple", "first", "average" or "max": see `aggregate`.
        ignore_labels: what to leave out of the answer: entities with the strategy "none", entity
            groups with the others.
        stride: read a text in windows of `max_length` tokens, of which consecutive ones share
            `stride` tokens. Of entities that overlap the longer is kept, then the one with the
            higher score. Needs a strategy other than "none".
    """

    aggregation_strategy: str = "none"
    ignore_labels: Sequence[str] = ("O",)
    stride: int | None = None

    def __post_init__(self) -> None:
        name = self.aggregation_strategy
        if not isinstance(name, str) or name.lower() not in STRATEGIES:
            raise InputError(
                f"aggregation_strategy is {shorten(name)}: use one of {', '.join(STRATEGIES)}"
            )
        if not isinstance(self.ignore_labels, (list, tuple)) or self.ignore_labels:
            check_strings("ignore_labels", self.ignore_labels)
        if self.stride is not None:
            check_whole("stride", self.stride, least=0)
            if name.lower() == "none":
                raise InputError(
                    "stride needs an aggregation_strategy other than 'none': tokens that two "
                    "windows share would be returned twice"
                )
            if self.truncation_side is not None:
                raise InputError(
                    f"truncation_side is {shorten(self.truncation_side)}, but with a stride no "
                    "side is cut: leave one of them out"
                )


@dataclass(frozen=True)
class Sentence:
    """A text and, if the caller has split it, its words and where each starts in the text."""

    text: str
    words: tuple[str, ...] | None = None
    starts: tuple[int, ...] = ()


class TokenClassification(Head):
    """Finds entities in a text.

    Input: a text, or the words of a text.
    Answer, in the order of the text: `[{"entity", "score", "index", "word", "start", "end"}, …]`
    for each token with the strategy "none", `[{"entity_group", "score", "word", "start", "end"},
    …]` for each group with the others. `start` and `end` are positions of characters.
    """

    task = "token-classification"
    options_class = TokenClassificationOptions
    input_names = ("is_split_into_words", "delimiter")

    def read_inputs(self, *args: Any, **named: Any) -> tuple[list[Sentence], bool]:
        """Parse `"A"` or `["A", "B"]`; with `is_split_into_words=True` one or more lists of words.

        The words of one text give a list with one answer, as in transformers. Words are joined by
        `delimiter` (a space when None) to the text in which `start` and `end` are positions.
        """
        split = named.get("is_split_into_words", False)
        check_flag("is_split_into_words", split)
        if len(args) != 1:
            raise InputError(f"{self.task} got {len(args)} inputs: give one text, or a list")
        value = args[0]
        if isinstance(value, list) and not value:
            raise InputError("the list of texts is empty: give at least one text")
        if split:
            if isinstance(value, list) and not all(isinstance(item, list) for item in value):
                value = [value]
            delimiter = named.get("delimiter")
            return [_join_words(words, delimiter) for words in _check_list(value)], False
        if isinstance(value, list):
            return [_parse_text(text) for text in value], False
        return [_parse_text(value)], True

    def prepare(self, input: Sentence, options: TokenClassificationOptions) -> Prepared:
        """Encode a text, in windows if `stride` is given."""
        text = input.text if input.words is None else input.words
        if options.stride is None:
            return Prepared([self.tokenizer.encode(text, **truncation_kwargs(options))], input)
        first = self.tokenizer.encode(
            text, truncation=True, max_length=options.max_length, stride=options.stride
        )
        return Prepared([first, *first.overflowing], input, windows=True)

    def finish(
        self,
        prepared: Prepared,
        samples: Sequence[SampleOutputs],
        options: TokenClassificationOptions,
    ) -> Answer:
        """Return the entities of all windows, in the order of the text."""
        entities = []
        for window, sample in zip(prepared.encodings, samples, strict=True):
            entities += aggregate(
                self._tokens(prepared.context, window, softmax(sample["logits"])),
                options.aggregation_strategy.lower(),
                self.config.labels,
                self.tokenizer.convert_tokens_to_string,
                options.ignore_labels,
            )
        return resolve_overlaps(entities) if len(samples) > 1 else entities

    def _tokens(self, sentence: Sentence, window: Encoding, scores: np.ndarray) -> list[Token]:
        """Return a window's tokens without special tokens; `scores` is [S, labels].

        A subword has a prefix and belongs to the word of the token before. transformers compares
        the lengths of a token and its text, which differ too where accents or invisible characters
        are removed. A tokenizer without prefixes has no words: there, as in transformers, a token
        continues the one before if no space is between them.
        """
        unknown_id = self.tokenizer.facts.special_ids.get("unk")
        prefix = self.tokenizer.subword_prefix
        tokens: list[Token] = []
        last_word_id = None
        columns = zip(
            window.ids, window.offsets, window.word_ids, window.special_tokens_mask, strict=True
        )
        for index, (id, (start, end), word_id, special) in enumerate(columns):
            if special:
                continue
            same_word = bool(tokens) and word_id == last_word_id
            last_word_id = word_id
            if sentence.words is not None and word_id is not None:
                start, end = start + sentence.starts[word_id], end + sentence.starts[word_id]
            text = sentence.text[start:end]
            word = self.tokenizer.id_to_token(id) or ""
            if prefix:
                is_subword = same_word and word.startswith(prefix)
            else:
                is_subword = start > 0 and " " not in sentence.text[start - 1 : start + 1]
            if id == unknown_id:
                word, is_subword = text, False
            tokens.append(Token(word, scores[index], index, start, end, is_subword))
        return tokens


def _parse_text(value: Any) -> Sentence:
    if isinstance(value, str):
        return Sentence(value)
    told = f"an input is {type(value).__name__} ({shorten(value)}): give a string"
    if isinstance(value, list):
        raise InputError(f"{told}, or for words pass", is_split_into_words=True)
    raise InputError(told)


def _check_list(value: Any) -> list[list[Any]]:
    if isinstance(value, list):
        return value
    raise InputError(
        f"an input is {type(value).__name__} ({shorten(value)}): give a list of words with",
        is_split_into_words=True,
    )


def _join_words(words: list[Any], delimiter: Any) -> Sentence:
    """Join the words of a text by `delimiter`; a space when None."""
    if delimiter is None:
        delimiter = " "
    if not isinstance(delimiter, str):
        raise InputError(f"delimiter is {shorten(delimiter)}: give a string")
    for word in words:
        if not isinstance(word, str):
            raise InputError(f"a word is {type(word).__name__} ({shorten(word)}): give strings")
    starts, start = [], 0
    for word in words:
        starts.append(start)
        start += len(word) + len(delimiter)
    return Sentence(delimiter.join(words), tuple(words), tuple(starts))
