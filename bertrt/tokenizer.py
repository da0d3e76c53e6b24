"""Text to token ids and back, with the tokenizers library.

A `tokenizers.Tokenizer` keeps its truncation as state, which threads would share. So this class
never changes one after it is made: each (length, stride, strategy) in use has a copy of its own.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import Encoding

from bertrt.artifact.manifest import TokenizerFacts
from bertrt.errors import ArtifactError, InputError, shorten

__all__ = ["Encoding", "Text", "Tokenizer", "pad", "write_vocabulary"]

# One text, or one text that the caller has split into words.
Text = str | Sequence[str]

STRATEGIES = ("longest_first", "only_first", "only_second")

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
    """A BERT tokenizer whose every method is safe from many threads."""

    def __init__(self, json: str, facts: TokenizerFacts) -> None:
        """Read the text of a tokenizer.json.

        Raises ArtifactError when it cannot be read, or gives a golden sentence other ids than
        those that the exporter saw.
        """
        self._json = json
        self.facts = facts
        try:
            self._plain = self._copy()
        except Exception as error:
            # The library raises a bare Exception for a JSON that it cannot use.
            raise ArtifactError(f"tokenizer.json cannot be used: {error}") from error
        self._truncating = functools.lru_cache(maxsize=16)(self._make_truncating)
        for text, ids in facts.golden:
            if tuple(self._plain.encode(text).ids) != ids:
                raise ArtifactError(
                    f"tokenizers {tokenizers.__version__} splits {text!r} otherwise than the "
                    "exporter's version did: export the checkpoint again with this version"
                )

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[str, TokenizerFacts]]:
        return Tokenizer, (self._json, self.facts)

    @property
    def max_length(self) -> int:
        """The longest input in tokens, special tokens included."""
        return self.facts.max_length

    @property
    def pad_id(self) -> int:
        """The id that fills a row on the right; 0 when the vocabulary has no padding token."""
        return self.facts.special_ids.get("pad") or 0

    @property
    def mask_id(self) -> int | None:
        """The id of the mask token, if there is one."""
        return self.facts.special_ids.get("mask")

    @property
    def marks_subwords(self) -> bool:
        """Whether a piece that continues a word is written with a prefix, as WordPiece's ##ing."""
        return bool(getattr(self._plain.model, "continuing_subword_prefix", None))

    def get_vocab(self) -> dict[str, int]:
        """Every token and its id, added tokens included; a new dict each time."""
        return dict(self._plain.get_vocab(with_added_tokens=True))

    def encode(
        self,
        text: Text,
        pair: Text | None = None,
        *,
        truncation: bool | str = False,
        max_length: int | None = None,
        stride: int | None = None,
        special_tokens: bool = True,
        empty_pair: bool = False,
    ) -> Encoding:
        """Encode one text or one pair of texts.

        Args:
            text: the text, or its words.
            pair: the second text, or its words; an empty one is none, as in transformers.
            truncation: False refuses what is too long; True (the same as "longest_first"),
                "only_first" or "only_second" cuts that part.
            max_length: the longest result in tokens; the model's own length when None.
            stride: with truncation, the tokens that a window shares with the one before; the
                further windows are the result's `overflowing`. None drops what is cut.
            special_tokens: whether to add [CLS] and [SEP].
            empty_pair: whether an empty second text makes a pair all the same, as it does in
                the lists of pairs that transformers takes.

        Raises InputError for a text that is not one, or is too long.
        """
        limit = self._limit(max_length)
        if not empty_pair:
            pair = pair or None
        words = not isinstance(text, str)
        if pair is not None and words is isinstance(pair, str):
            raise InputError("a text and its pair must both be strings or both be lists of words")
        for part in (text,) if pair is None else (text, pair):
            _check_text(part)
        tokenizer = self._plain
        if truncation is not False:
            strategy = "longest_first" if truncation is True else truncation
            added = tokenizer.num_special_tokens_to_add(pair is not None) if special_tokens else 0
            if strategy not in STRATEGIES:
                raise InputError(
                    f"truncation is {truncation!r}: use True, False or {', '.join(STRATEGIES)}"
                )
            if limit <= added + (stride or 0):
                raise InputError(
                    f"max_length is {limit}, which leaves no room for text beside {added} special "
                    f"tokens and a stride of {stride or 0}: give a larger one"
                )
            tokenizer = self._truncating(limit, stride or 0, strategy)
        try:
            encoding = tokenizer.encode(
                text, pair, is_pretokenized=words, add_special_tokens=special_tokens
            )
        except BaseException as error:
            # A strategy that names one part, where the other alone is too long, is an Exception;
            # a stride longer than what is left of that part is a panic, which is not.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise InputError(f"the text cannot be cut to {limit} tokens: {error}") from error
        if len(encoding) > limit:
            which = f"the text {shorten(text)}" + (" with its pair" if pair is not None else "")
            raise InputError(
                f"{which} has {len(encoding)} tokens and the limit is {limit}: "
                "shorten it, or pass truncation=True"
            )
        return encoding

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of token ids, as transformers' `decode` writes it."""
        text = self._plain.decode([int(i) for i in ids], skip_special_tokens=skip_special_tokens)
        if self.facts.clean_up_tokenization_spaces:
            for spaced, joined in _CLEAN_UP:
                text = text.replace(spaced, joined)
        return text

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text of tokens, as transformers' `convert_tokens_to_string` writes it."""
        decoder = self._plain.decoder
        text: str = " ".join(tokens) if decoder is None else decoder.decode(list(tokens))
        return text

    def token_to_id(self, token: str) -> int | None:
        """The id of a token, None when the vocabulary lacks it."""
        try:
            found: int | None = self._plain.token_to_id(token)
        except UnicodeEncodeError:  # a lone surrogate is in no vocabulary
            return None
        return found

    def id_to_token(self, id: int) -> str | None:
        """The token of an id, None when the id is out of range."""
        found: str | None = self._plain.id_to_token(id) if id >= 0 else None
        return found

    def build_inputs_with_special_tokens(
        self, ids: Sequence[int], pair: Sequence[int] | None = None
    ) -> list[int]:
        """`[CLS] ids [SEP]`, or `[CLS] ids [SEP] pair [SEP]`."""
        cls, sep = self._special("cls"), self._special("sep")
        return [cls, *ids, sep] + ([*pair, sep] if pair is not None else [])

    def special_tokens_mask(self, ids: Sequence[int]) -> list[int]:
        """1 for each id that is a special token (unk too, as in transformers), 0 for text."""
        special = {
            id for id, token in self._plain.get_added_tokens_decoder().items() if token.special
        }
        special.update(id for id in self.facts.special_ids.values() if id is not None)
        return [int(id in special) for id in ids]

    def token_type_ids(self, ids: Sequence[int], pair: Sequence[int] | None = None) -> list[int]:
        """0 for `[CLS] ids [SEP]`, 1 for `pair [SEP]`."""
        return [0] * (len(ids) + 2) + ([1] * (len(pair) + 1) if pair is not None else [])

    def save_vocabulary(self, directory: str | Path) -> Path:
        """Write vocab.txt, as `write_vocabulary` does, and return its path."""
        path = Path(directory) / "vocab.txt"
        write_vocabulary(self._plain, path)
        return path

    def _limit(self, max_length: int | None) -> int:
        if max_length is None:
            return self.max_length
        if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
            raise InputError(f"max_length is {max_length!r}: give a whole number of at least 1")
        if max_length > self.max_length:
            raise InputError(
                f"max_length is {max_length}, and this model reads at most {self.max_length} tokens"
            )
        return max_length

    def _special(self, role: str) -> int:
        id = self.facts.special_ids.get(role)
        if id is None:
            raise InputError(f"this tokenizer has no {role} token")
        return id

    def _copy(self) -> tokenizers.Tokenizer:
        tokenizer = tokenizers.Tokenizer.from_str(self._json)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def _make_truncating(self, limit: int, stride: int, strategy: str) -> tokenizers.Tokenizer:
        tokenizer = self._copy()
        tokenizer.enable_truncation(limit, stride=stride, strategy=strategy)
        return tokenizer


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
                "which is no character: decode the bytes it came from with errors='replace'"
            ) from None


def write_vocabulary(tokenizer: tokenizers.Tokenizer, path: Path) -> None:
    """Write one token a line, its number the token's id; an id without a token is an empty line.

    Added tokens are left out.
    """
    tokens = {id: token for token, id in tokenizer.get_vocab(with_added_tokens=False).items()}
    lines = "".join(f"{tokens.get(id, '')}\n" for id in range(max(tokens) + 1))
    path.write_text(lines, encoding="utf-8")


def pad(encodings: Sequence[Encoding], pad_id: int) -> dict[str, np.ndarray]:
    """Encodings as int64 arrays [B, S], padded on the right to the longest.

    Returns input_ids, attention_mask (1 for tokens, 0 for padding) and token_type_ids.
    """
    lengths = np.array([len(one) for one in encodings])
    shape = (len(encodings), lengths.max())
    ids = np.full(shape, pad_id, dtype=np.int64)
    mask = (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)
    types = np.zeros(shape, dtype=np.int64)
    for row, (length, one) in enumerate(zip(lengths, encodings, strict=True)):
        ids[row, :length] = one.ids
        types[row, :length] = one.type_ids
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
