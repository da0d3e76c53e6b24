"""Expand the demo model's training text, facts.txt and prose.txt, into sentences.

The format of their lines:

- `(a|b|c)` is one of the choices; a choice may be empty, and choices nest.
- `[animal] name; kind` starts a table and names its columns; each line after it is a row.
- `> ` starts a pattern, which makes sentences of every row of its table. `{kind}` is the row's
  value, `{a kind}` the value with "a" or "an", `{kind s}` its plural.
- `/` in a value separates alternatives. `#` starts a comment.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Cloze", "held_out", "sentences"]

_FOLDER = Path(__file__).resolve().parent

# The maximum number of sentences of one row and pattern, and of one line of prose.
_OF_A_PATTERN = 4
_OF_A_LINE = 48
# Draws for each sentence: choices are random, and may repeat an earlier sentence.
_DRAWS = 6

# Frames around statements, so that their words have varying positions.
_FRAMES = (
    "I think that {}",
    "I know that {}",
    "It is true that {}",
    "It is well known that {}",
    "Everyone knows that {}",
    "As you know, {}",
    "Our teacher told us that {}",
    "In this book you can read that {}",
    "He said to me that {}",
    "Yes, {}",
    "Of course {}",
    "Sometimes {}",
    "Today {}",
    "And {}",
    "But {}",
    "For example, {}",
)
_FRAMED_SHARE = 0.3

_CHOICE = re.compile(r"\(([^()]*)\)")
_FIELD = re.compile(r"\{(a )?([a-z0-9]+)( s)?\}")

_PLURALS = {
    "mouse": "mice",
    "sheep": "sheep",
    "deer": "deer",
    "fish": "fish",
    "salmon": "salmon",
    "trout": "trout",
    "goose": "geese",
    "wolf": "wolves",
}
_NO_ARTICLE = set("scissors soap law bread medicine money cheese fruit coffee tea dinner".split())


@dataclass(frozen=True)
class Cloze:
    """A sentence with one `[MASK]`, the right answers in lower case, and the file it is from."""

    sentence: str
    answers: tuple[str, ...]
    source: str

    def matches(self, sentence: str) -> bool:
        """Whether a sentence contains this one, with one to three words for the mask."""
        before, after = (_words(part) for part in self.sentence.split("[MASK]"))
        words = _words(sentence)
        if before not in words or after not in words:
            return False
        return re.search(rf"\b{before} (\S+ ){{0,2}}\S+ ?{after}\b", words) is not None


@cache
def _words(sentence: str) -> str:
    """Return a sentence in lower case, with single spaces and no punctuation."""
    return " ".join(re.findall(r"[\w']+", sentence.lower()))


def held_out() -> list[Cloze]:
    """Return the test sentences, none of which is in the training text."""
    clozes = []
    for name in ("heldout.txt", "heldout_late.txt"):
        for line in _lines(name):
            sentence, answers = line.split(" | ")
            clozes.append(Cloze(sentence, tuple(answers.split(", ")), name))
    return clozes


def sentences(seed: int) -> list[str]:
    """Return the training text: distinct sentences without held-out ones, the same for a seed."""
    rng = random.Random(seed)
    plain = dict.fromkeys([*_from_facts(rng), *_from_prose(rng)])
    framed = [
        _framed(text, rng) for text in plain if rng.random() < _FRAMED_SHARE and text.endswith(".")
    ]
    found = dict.fromkeys([*plain, *framed])
    clozes = held_out()
    return [text for text in found if not any(cloze.matches(text) for cloze in clozes)]


def _framed(text: str, rng: random.Random) -> str:
    return rng.choice(_FRAMES).format(text[0].lower() + text[1:])


def _lines(name: str) -> list[str]:
    text = (_FOLDER / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _from_prose(rng: random.Random) -> Iterator[str]:
    for line in _lines("prose.txt"):
        yield from _draw(line, {}, rng, _OF_A_LINE)


def _from_facts(rng: random.Random) -> Iterator[str]:
    columns: list[str] = []
    rows: list[dict[str, str]] = []
    for line in _lines("facts.txt"):
        if line.startswith("["):
            columns, rows = line.partition("] ")[2].split("; "), []
        elif line.startswith("> "):
            for row in rows:
                yield from _draw(line.removeprefix("> "), row, rng, _OF_A_PATTERN)
        else:
            rows.append(dict(zip(columns, line.split("; "), strict=True)))


def _draw(pattern: str, row: dict[str, str], rng: random.Random, limit: int) -> list[str]:
    """Draw up to `limit` distinct sentences of a pattern."""
    found: dict[str, None] = {}
    for _ in range(limit * _DRAWS):
        text = pattern
        while "(" in text:  # the innermost choices first
            text = _CHOICE.sub(lambda match: rng.choice(match[1].split("|")), text)
        text = _FIELD.sub(lambda match: _value(match, row, rng), text)
        found[text[0].upper() + text[1:]] = None
        if len(found) == limit:
            break
    return list(found)


def _value(field: re.Match[str], row: dict[str, str], rng: random.Random) -> str:
    article, name, plural = field.groups()
    value = rng.choice(row[name].split("/"))
    if plural:
        return _plural(value)
    if article and value not in _NO_ARTICLE:
        return f"{'an' if value[0] in 'aeiouAEIOU' or value == 'hour' else 'a'} {value}"
    return value


def _plural(word: str) -> str:
    if word in _PLURALS:
        return _PLURALS[word]
    if word.endswith(("s", "x", "ch", "sh", "ato")):
        return f"{word}es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"
