"""`token-classification` (BertForTokenClassification): a label for each token, or entities.

The contract is that of transformers' pipeline, with plain Python floats. A text that is too long
is refused, where the pipeline drops its end, unless `stride` or `truncation` is given.
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
from bertrt.heads.truncation import truncation_of
from bertrt.tokenizer import Encoding

__all__ = ["TokenClassification", "TokenClassificationOptions"]


@dataclass(frozen=True, kw_only=True)
class TokenClassificationOptions(Options):
    """How tokens become entities, and how a long text is read.

    `aggregation_strategy` is none, simple, first, average or max: see `aggregate`.
    `ignore_labels` are left out of the answer: labels with "none", else groups.
    `stride` reads a text in windows of `max_length` tokens that share as many tokens as it says;
    of entities that overlap the longer is kept, then the one with the higher score. It needs a
    strategy other than "none".
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
                    "windows share would be answered twice"
                )


@dataclass(frozen=True)
class Sentence:
    """A text and, when the caller has split it, its words and where each starts in the text."""

    text: str
    words: tuple[str, ...] | None = None
    starts: tuple[int, ...] = ()


class TokenClassification(Head):
    """Answers `[{"entity" or "entity_group", "score", "word", "start", "end"}, …]`.

    Entities of single tokens have the token's `index` too. `start` and `end` count characters.
    """

    task = "token-classification"
    options = TokenClassificationOptions
    input_names = ("is_split_into_words", "delimiter")

    def read_inputs(self, *args: Any, **named: Any) -> tuple[list[Sentence], bool]:
        """`"A"` or `["A", "B"]`; with `is_split_into_words=True` a list of words, or of such lists.

        The words of one text give a list of one answer, as in transformers. `delimiter` (a space)
        joins them to the text that `start` and `end` count in.
        """
        split = named.get("is_split_into_words", False)
        check_flag("is_split_into_words", split)
        if len(args) != 1:
            raise InputError(f"{self.task} got {len(args)} inputs: give one text, or a list")
        given = args[0]
        if isinstance(given, list) and not given:
            raise InputError("the list of texts is empty: give at least one text")
        if split:
            if isinstance(given, list) and not all(isinstance(one, list) for one in given):
                given = [given]
            delimiter = named.get("delimiter")
            return [_words(one, delimiter) for one in _list_of_words(given)], False
        if isinstance(given, list):
            return [_text(one) for one in given], False
        return [_text(given)], True

    def prepare(self, input: Sentence, options: TokenClassificationOptions) -> Prepared:
        """Encode a text, in windows if there is a stride."""
        text = input.text if input.words is None else input.words
        if options.stride is None:
            return Prepared([self.tokenizer.encode(text, **truncation_of(options))], input)
        first = self.tokenizer.encode(
            text, truncation=True, max_length=options.max_length, stride=options.stride
        )
        return Prepared([first, *first.overflowing], input)

    def finish(
        self,
        prepared: Prepared,
        samples: Sequence[SampleOutputs],
        options: TokenClassificationOptions,
    ) -> Answer:
        """The entities of all windows, in the order of the text."""
        strategy = options.aggregation_strategy.lower()
        label = "entity" if strategy == "none" else "entity_group"
        entities = []
        for window, sample in zip(prepared.encodings, samples, strict=True):
            found = aggregate(
                self._tokens(prepared.context, window, softmax(sample["logits"])),
                strategy,
                self.config.labels,
                self.tokenizer.convert_tokens_to_string,
            )
            entities += [one for one in found if one[label] not in options.ignore_labels]
        return resolve_overlaps(entities) if len(samples) > 1 else entities

    def _tokens(self, sentence: Sentence, window: Encoding, scores: np.ndarray) -> list[Token]:
        """A window's tokens without [CLS] and [SEP]; `scores` is [S, labels]."""
        unknown = self.tokenizer.facts.special_ids.get("unk")
        marked = self.tokenizer.marks_subwords
        tokens = []
        columns = zip(
            window.ids, window.offsets, window.word_ids, window.special_tokens_mask, strict=True
        )
        for index, (id, (start, end), word_id, special) in enumerate(columns):
            if special:
                continue
            if sentence.words is not None and word_id is not None:
                start, end = start + sentence.starts[word_id], end + sentence.starts[word_id]
            written = sentence.text[start:end]
            word = self.tokenizer.id_to_token(id) or ""
            if marked:
                continues = len(word) != len(written)
            else:
                continues = start > 0 and " " not in sentence.text[start - 1 : start + 1]
            if id == unknown:
                word, continues = written, False
            tokens.append(Token(word, scores[index], index, start, end, continues))
        return tokens


def _text(value: Any) -> Sentence:
    if isinstance(value, str):
        return Sentence(value)
    hint = ", or pass is_split_into_words=True for words" if isinstance(value, list) else ""
    raise InputError(f"an input is {type(value).__name__} ({shorten(value)}): give a string{hint}")


def _list_of_words(value: Any) -> list[list[Any]]:
    if isinstance(value, list):
        return value
    raise InputError(
        f"an input is {type(value).__name__} ({shorten(value)}): with is_split_into_words=True "
        "give a list of words"
    )


def _words(words: list[Any], delimiter: str | None) -> Sentence:
    """A text of its words; `delimiter` is a space when None."""
    joint = " " if delimiter is None else delimiter
    if not isinstance(joint, str):
        raise InputError(f"delimiter is {shorten(joint)}: give a string")
    for word in words:
        if not isinstance(word, str):
            raise InputError(f"a word is {type(word).__name__} ({shorten(word)}): give strings")
    starts, place = [], 0
    for word in words:
        starts.append(place)
        place += len(word) + len(joint)
    return Sentence(joint.join(words), tuple(words), tuple(starts))
