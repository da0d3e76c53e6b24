"""A WordPiece vocabulary of bert-base-uncased's size, for the models with random weights.

It is the vocabulary of bertrt's demo model, which covers the words of the benchmark's texts,
filled up to 30,522 tokens with syllables. Only its size affects speed.
"""

import itertools
import json
import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

__all__ = ["SIZE", "write_tokenizer"]

SIZE = 30_522


def write_tokenizer(folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and vocab.txt into a checkpoint's folder."""
    with resources.as_file(resources.files("bertrt.export.demo")) as demo:
        tokenizer = json.loads((demo / "tokenizer.json").read_text(encoding="utf-8"))
        shutil.copyfile(demo / "tokenizer_config.json", folder / "tokenizer_config.json")
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    for token in _syllables():
        if len(vocabulary) == SIZE:
            break
        vocabulary.setdefault(token, len(vocabulary))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    lines = sorted(vocabulary, key=vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _syllables() -> Iterator[str]:
    """Yield words of two syllables, each also as a continuation, then words of three."""
    syllables = ["".join(pair) for pair in itertools.product("bcdfghjklmnprstvwz", "aeiou")]
    for pair in itertools.product(syllables, repeat=2):
        word = "".join(pair)
        yield word
        yield f"##{word}"
    for triple in itertools.product(syllables, repeat=3):
        yield "".join(triple)
