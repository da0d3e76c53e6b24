"""Encode text to token ids and decode it again, with the tokenizers library.

A `tokenizers.Tokenizer` keeps its truncation as state, which threads would share. So `Tokenizer`
never changes one once it is set up: it makes a copy for each (length, stride, strategy, side) that
is in use.
"""

import functools
import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import Encoding

from bertrt.artifact.manifest import TokenizerFacts
from bertrt.checks import check_truncation
from bertrt.errors import ArtifactError, InputError, TooLongError, shorten
from bertrt.tokens import GivenTokens, Tokens

__all__ = ["Encoding", "Text", "Tokenizer", "write_vocabulary"]

# A text, or the words of a text that the caller has split.
Text = str | Sequence[str]

_CLEAN_UP = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


class Tokenizer:
    """An artifact's tokenizer. Thread-safe; can be pickled."""

    def __init__(self, json: str, facts: TokenizerFacts) -> None:
        """Create a tokenizer from the contents of a tokenizer.json and from `facts` about it.

        Raises ArtifactError if the file cannot be used, or if it gives a golden text in `facts`
        other ids than it did at export.
        """
        self._json = json
        self.facts = facts
        try:
            self._tokenizer = self._load()
        except Exception as error:
            # The library raises a plain Exception for JSON that it cannot use.
            raise ArtifactError(f"tokenizer.json cannot be used: {error}") from error
        self.one_token_type = not any(self._tokenizer.encode("a", "a").type_ids)
        self._special_ids = frozenset(facts.all_special_ids)
        # Special tokens that are plain tokens here, as `split_special_tokens` makes them.
        self._split_ids = self._special_ids - self._tokenizer.get_added_tokens_decoder().keys()
        self._truncating_copy = functools.lru_cache(maxsize=16)(self._make_truncating_copy)
        for text, ids in facts.golden:
            if tuple(self._tokenizer.encode(text).ids) != ids:
                raise ArtifactError(
                    f"tokenizers {tokenizers.__version__} encodes {text!r} differently from the "
                    "version used at export: export the checkpoint again with this version"
                )

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[str, TokenizerFacts]]:
        return Tokenizer, (self._json, self.facts)

    @property
    def max_length(self) -> int:
        """The maximum length of an input in tokens, including special tokens."""
        return self.facts.max_length

    @property
    def pad_id(self) -> int:
        """The id of the padding token; 0 if the vocabulary has none."""
        return self.facts.special_ids.get("pad") or 0

    @property
    def mask_id(self) -> int | None:
        """The id of the mask token; None if the vocabulary has none."""
        return self.facts.special_ids.get("mask")

    @property
    def mask_is_text(self) -> bool:
        """Whether the name of the mask token in a text is plain text: `split_special_tokens`."""
        return self.mask_id in self._split_ids

    @property
    def subword_prefix(self) -> str:
        """The prefix of subwords that continue a word, such as WordPiece's ##; "" if none."""
        return getattr(self._tokenizer.model, "continuing_subword_prefix", None) or ""

    def get_vocab(self) -> dict[str, int]:
        """Return every token and its id, including added tokens; a new dict each time."""
        return dict(self._tokenizer.get_vocab(with_added_tokens=True))

    def encode(
        self,
        text: Text,
        pair: Text | None = None,
        *,
        truncation: bool | str = False,
        max_length: int | None = None,
        truncation_side: str | None = None,
        stride: int | None = None,
        special_tokens: bool = True,
        empty_pair: bool = False,
        advice: bool | str | None = None,
    ) -> Encoding:
        """Encode one text or one pair of texts.

        Args:
            text: the text, or its words.
            pair: the second text, or its words. An empty one is ignored, as in transformers.
            truncation: False makes a text that is too long an InputError; True (the same as
                "longest_first"), "only_first" and "only_second" truncate that part.
            max_length: the maximum length in tokens; the model's when None.
            truncation_side: the side that truncation cuts, "left" or "right"; the tokenizer's own
                when None.
            stride: with truncation, how many tokens consecutive windows share; windows after the
                first are in the result's `overflowing`. None is 0.
            special_tokens: whether to add the special tokens around texts.
            empty_pair: whether an empty second text makes a pair too, as it does in the lists of
                pairs that transformers takes.
            advice: the truncation that the error for a text that is too long names; when None True
                and, for a pair, "longest_first".

        Raises InputError if a text is not a string or a list of strings, or if words given alone
        would be other tokens than within a text, and TooLongError if it is too long.
        """
        check_truncation(truncation, truncation_side)
        limit = self._check_max_length(max_length)
        if not empty_pair:
            pair = pair or None
        words = not isinstance(text, str)
        if pair is not None and words is isinstance(pair, str):
            raise InputError("a text and its pair must both be strings or both be lists of words")
        for part in (text,) if pair is None else (text, pair):
            _check_text(part)
        if words and not self._takes_words:
            raise InputError(
                "this tokenizer begins a word with the space before it, which a list of words "
                'lacks: give the text, or set "add_prefix_space" to true in the checkpoint\'s '
                "tokenizer_config.json and export it again"
            )
        tokenizer = self._tokenizer
        if truncation is not False:
            strategy = "longest_first" if truncation is True else truncation
            added = self.num_special_tokens_to_add(pair=pair is not None) if special_tokens else 0
            if limit <= added + (stride or 0):
                raise InputError(
                    f"max_length is {limit}, which leaves no room for text beside {added} special "
                    f"tokens and a stride of {stride or 0}: raise it"
                )
            side = truncation_side or self.facts.truncation_side
            tokenizer = self._truncating_copy(limit, stride or 0, strategy, side)
        try:
            encoding = tokenizer.encode(
                text, pair, is_pretokenized=words, add_special_tokens=special_tokens
            )
        except BaseException as error:
            # "only_first" and "only_second" raise an Exception if the other part alone is too
            # long, and panic if the stride is longer than what is left; a PanicException is a
            # BaseException.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise InputError(f"the text cannot be truncated to {limit} tokens: {error}") from error
        if len(encoding) > limit:
            what = f"the text {shorten(text)}" + (" with its pair" if pair is not None else "")
            if advice is None:
                advice = True if pair is None else "longest_first"
            raise TooLongError(
                f"{what} has {len(encoding)} tokens and the limit is {limit}: shorten it, or pass",
                tokens=len(encoding),
                limit=limit,
                truncation=advice,
            )
        return encoding

    def take_ids(
        self,
        ids: Sequence[int],
        vocab_size: int,
        *,
        truncation: bool | str = False,
        max_length: int | None = None,
        truncation_side: str | None = None,
    ) -> Tokens:
        """Return the tokens of a text that the caller has encoded; adds nothing.

        Args:
            ids: the token ids.
            vocab_size: how many ids the model has, which may be more than the tokenizer's.
            truncation, max_length, truncation_side: as in `encode`.

        Raises InputError for no ids and for one that the model does not have, and TooLongError for
        too many.
        """
        check_truncation(truncation, truncation_side)
        limit = self._check_max_length(max_length)
        numbers = _check_ids(ids, vocab_size)
        if len(numbers) <= limit:
            return GivenTokens(numbers)
        if truncation is False:
            raise TooLongError(
                f"the token ids {shorten(list(numbers))} are {len(numbers)} and the limit is "
                f"{limit}: give fewer, or pass",
                tokens=len(numbers),
                limit=limit,
                truncation=True,
            )
        if (truncation_side or self.facts.truncation_side) == "left":
            return GivenTokens(numbers[-limit:], numbers[:-limit])
        return GivenTokens(numbers[:limit], numbers[limit:])

    def encode_whole(self, text: str, *, special_tokens: bool = True) -> Encoding:
        """Encode one text of any length, such as one to be counted or split."""
        _check_text(text)
        return self._tokenizer.encode(text, add_special_tokens=special_tokens)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of token ids, as transformers' `decode` does."""
        numbers = [int(id) for id in ids]
        if skip_special_tokens:
            numbers = [id for id in numbers if id not in self._split_ids]
        text = self._tokenizer.decode(numbers, skip_special_tokens=skip_special_tokens)
        if self.facts.clean_up_tokenization_spaces:
            for spaced, joined in _CLEAN_UP:
                text = text.replace(spaced, joined)
        return text

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return the text of tokens, as transformers' `convert_tokens_to_string` does."""
        decoder = self._tokenizer.decoder
        text: str = " ".join(tokens) if decoder is None else decoder.decode(list(tokens))
        return text

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a token; None if it is not in the vocabulary."""
        try:
            id: int | None = self._tokenizer.token_to_id(token)
        except UnicodeEncodeError:  # no vocabulary contains a lone surrogate
            return None
        return id

    def id_to_token(self, id: int) -> str | None:
        """Return the token of an id; None if the id is out of range."""
        token: str | None = self._tokenizer.id_to_token(id) if id >= 0 else None
        return token

    def num_special_tokens_to_add(self, *, pair: bool = False) -> int:
        """Return how many special tokens are around a text, or around the texts of a pair."""
        return int(self._tokenizer.num_special_tokens_to_add(pair))

    def build_inputs_with_special_tokens(
        self, ids: Sequence[int], pair: Sequence[int] | None = None
    ) -> list[int]:
        """Return token ids with the special tokens around them, such as `[CLS] ids [SEP]`."""
        inputs: list[int] = []
        for text, id, _ in self._template(pair is not None):
            inputs += [id] if text is None else (pair or ()) if text else ids
        return inputs

    def special_tokens_mask(self, ids: Sequence[int]) -> list[int]:
        """Return 1 for each special token, also for unknown ones as in transformers, 0 for text."""
        return [int(id in self._special_ids) for id in ids]

    def token_type_ids(self, ids: Sequence[int], pair: Sequence[int] | None = None) -> list[int]:
        """Return the token type of each token of `build_inputs_with_special_tokens`.

        They are 0 and for a second text 1, or 0 if the checkpoint's tokenizer or model has one type
        only.
        """
        types: list[int] = []
        for text, _, type in self._template(pair is not None):
            count = 1 if text is None else len((pair or ()) if text else ids)
            types += [type] * count
        return types

    def save_vocabulary(self, directory: str | Path) -> Path:
        """Write vocab.txt with `write_vocabulary`, and return its path."""
        path = Path(directory) / "vocab.txt"
        write_vocabulary(self._tokenizer, path)
        return path

    def _check_max_length(self, max_length: int | None) -> int:
        if max_length is None:
            return self.max_length
        if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
            raise InputError(f"max_length is {max_length!r}: give a whole number of at least 1")
        if max_length > self.max_length:
            raise InputError(
                f"max_length is {max_length}, and this model reads at most {self.max_length} tokens"
            )
        return max_length

    @functools.cached_property
    def _takes_words(self) -> bool:
        """Whether words given alone are the tokens that they are within a text."""
        alone = self._tokenizer.encode(["a", "a"], is_pretokenized=True)
        return bool(alone.ids == self._tokenizer.encode("a a").ids)

    def _template(self, pair: bool) -> Iterator[tuple[int | None, int, int]]:
        """Yield the parts of an input: each special token, and the place of each text.

        A part is (None, its id, its token type), or (0 or 1 for the text, any id, its token type).
        """
        encoding = self._tokenizer.encode("a", "a" if pair else None)
        last = None
        parts = zip(encoding.sequence_ids, encoding.ids, encoding.type_ids, strict=True)
        for text, id, type in parts:
            if text is None or text != last:
                yield text, id, type
            last = text

    def _load(self) -> tokenizers.Tokenizer:
        tokenizer = tokenizers.Tokenizer.from_str(self._json)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def _make_truncating_copy(
        self, limit: int, stride: int, strategy: str, side: str
    ) -> tokenizers.Tokenizer:
        tokenizer = self._load()
        tokenizer.enable_truncation(limit, stride=stride, strategy=strategy, direction=side)
        return tokenizer


def _check_ids(ids: Any, vocab_size: int) -> list[int]:
    """Return token ids as plain integers, of which there is at least one."""
    try:
        if any(isinstance(id, (bool, np.bool_)) for id in ids):
            raise TypeError
        numbers = [operator.index(id) for id in ids]
    except TypeError:
        raise InputError(
            f"the token ids are {shorten(ids)}: give a list of whole numbers"
        ) from None
    if not numbers:
        raise InputError("the list of token ids is empty: give at least one")
    for number in numbers:
        if not 0 <= number < vocab_size:
            raise InputError(
                f"the token id {number} is not in the vocabulary, whose ids are 0 to "
                f"{vocab_size - 1}: encode the text with this model's own tokenizer"
            )
    return numbers


def _check_text(text: Text) -> None:
    parts = [text] if isinstance(text, str) else text
    if not isinstance(parts, (list, tuple)):
        raise InputError(f"a text is {type(text).__name__}: give a string")
    for part in parts:
        if not isinstance(part, str):
            raise InputError(f"a word is {type(part).__name__} ({part!r}): give strings")
        try:
            part.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"the text has the lone surrogate {part[error.start]!r} at position {error.start}, "
                "which is not a character: decode the bytes it came from with errors='replace'"
            ) from None


def write_vocabulary(tokenizer: tokenizers.Tokenizer, path: Path) -> None:
    """Write a vocabulary with one token a line, in the order of their ids.

    An id without a token is an empty line. Added tokens are left out.
    """
    tokens = {id: token for token, id in tokenizer.get_vocab(with_added_tokens=False).items()}
    lines = "".join(f"{tokens.get(id, '')}\n" for id in range(max(tokens) + 1))
    path.write_text(lines, encoding="utf-8")
