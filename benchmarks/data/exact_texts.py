"""Texts of an exact number of tokens: a fixed shape for contenders that take texts.

The words are those of the mixed-lengths corpus that the model's own tokenizer keeps whole, so that
every contender's tokenizer has to make equally many tokens of them.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bertrt.export.demo.corpus import sentences

__all__ = ["exact_texts"]

_SEED = 11
_SPECIAL = 2
_LEAST_WORDS = 50


def exact_texts(checkpoint: Path, count: int, tokens: int, seed: int = _SEED) -> list[str]:
    """Return `count` different texts of `tokens` tokens each, [CLS] and [SEP] included.

    Args:
        checkpoint: the folder with the model's tokenizer.json.
        count: how many.
        tokens: the length of each, at least 4.
        seed: of the words. Equal arguments give equal texts.

    Raises ValueError when the tokenizer splits too many of the words, or the texts.
    """
    from tokenizers import Tokenizer

    if tokens < _SPECIAL + 2:
        raise ValueError(f"texts of {tokens} tokens are too alike: ask for at least 4")
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    words = _whole_words(tokenizer)
    if len(words) < _LEAST_WORDS:
        raise ValueError(
            f"the tokenizer in {checkpoint} keeps only {len(words)} of the benchmark's words "
            f"whole, and {_LEAST_WORDS} are needed: name a model with an English vocabulary"
        )
    rng = np.random.default_rng(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[" ".join(rng.choice(words, tokens - _SPECIAL))] = None
    lengths = {len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))}
    if lengths != {tokens}:
        raise ValueError(
            f"the tokenizer in {checkpoint} makes {sorted(lengths)} tokens of texts that should "
            f"have {tokens}: name a model with BERT's tokenizer"
        )
    return list(texts)


def _whole_words(tokenizer: Any) -> list[str]:
    """Return the words that are one token each, and not the one for unknown words."""
    encodings = tokenizer.encode_batch(_words(), add_special_tokens=False)
    known = zip(_words(), encodings, strict=True)
    return [word for word, encoding in known if encoding.tokens == [word]]


@cache
def _words() -> list[str]:
    return sorted(set(re.findall(r"\b[a-z]{2,}\b", " ".join(sentences(seed=0)))))
