"""Make masked batches of the demo model's training text.

Three techniques help the model with texts that are not short, clean sentences: some words are
spelled in smaller pieces, sentences also come as pairs and in short and long runs, and a row's
positions may start anywhere, so that all of them are trained.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import torch

from bertrt.export.demo.vocabulary import SPECIAL, words_of

__all__ = ["MASKED_SHARE", "MAX_POSITIONS", "Batch", "Batches"]

MAX_POSITIONS = 512
MASKED_SHARE = 0.25

_PAD, _UNK, _CLS, _SEP, _MASK = range(len(SPECIAL))
# Single sentences only at first: with mixed rows, the first steps learn three times slower.
_PLAIN_EPOCHS = 4

_SPELLED_SHARE = 0.02  # of the words
_PAIRS_SHARE = 0.1  # of the rows
_RUNS_SHARE = 0.3  # of the rows: a few sentences, one after the other
_LONGEST_RUN = 6  # sentences
_LONG_SHARE = 0.01  # of the rows
_MOVED_SHARE = 0.4  # of the rows: their positions do not start at 0
_SHORTEST_LONG_ROW = 48
_TOKENS_A_BATCH = 640
_POOL = 8192  # rows sorted by length together, so that batches hold little padding


@dataclass(frozen=True)
class Batch:
    """The arrays of one step, int64, [B, S]; labels are -100 where nothing is predicted."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class _Row:
    words: list[str]
    second: int  # the index of the first word of the second text

    @property
    def length(self) -> int:
        return len(self.words)


class Batches:
    """Infinite batches of a list of sentences; the same for equal seeds."""

    def __init__(self, sentences: list[str], vocabulary: list[str], seed: int) -> None:
        self._words = [words_of(sentence) for sentence in sentences]
        self._ids = {token: number for number, token in enumerate(vocabulary)}
        self._rng = random.Random(seed)
        occurrences = Counter(word for words in self._words for word in words)
        # Rare words are masked more often: "the" and "." are learned quickly.
        self._weights = {word: number**-0.4 for word, number in occurrences.items()}

    def __iter__(self) -> Iterator[Batch]:
        for epoch in count():
            order = self._words.copy()
            self._rng.shuffle(order)
            plain = epoch < _PLAIN_EPOCHS
            rows = [_Row(words, len(words)) for words in order] if plain else self._joined(order)
            yield from self._batches(list(rows))

    def _batches(self, rows: list[_Row]) -> Iterator[Batch]:
        for start in range(0, len(rows), _POOL):
            pool = sorted(rows[start : start + _POOL], key=lambda row: row.length)
            groups: list[list[_Row]] = [[]]
            for row in pool:
                if (len(groups[-1]) + 1) * (row.length + 2) > _TOKENS_A_BATCH and groups[-1]:
                    groups.append([])
                groups[-1].append(row)
            self._rng.shuffle(groups)
            for group in groups:
                yield self._batch(group)

    def _joined(self, order: list[list[str]]) -> Iterator[_Row]:
        waiting = iter(order)
        for words in waiting:
            kind = self._rng.random()
            if kind < _PAIRS_SHARE:
                yield _Row(words + next(waiting, words), len(words))
            elif kind < _PAIRS_SHARE + _RUNS_SHARE:
                more = islice(waiting, self._rng.randint(1, _LONGEST_RUN - 1))
                row = sum(more, words)
                yield _Row(row, len(row))
            elif kind < _PAIRS_SHARE + _RUNS_SHARE + _LONG_SHARE:
                # Leave room for spelled words and special tokens.
                length = self._rng.randint(_SHORTEST_LONG_ROW, MAX_POSITIONS * 4 // 5)
                row = list(words)
                while len(row) < length and (following := next(waiting, None)):
                    row += following
                yield _Row(row, len(row))
            else:
                yield _Row(words, len(words))

    def _batch(self, rows: list[_Row]) -> Batch:
        made = [self._masked(row) for row in rows]
        longest = max(len(ids) for ids, _, _ in made)
        shape = (len(made), longest)
        input_ids = torch.full(shape, _PAD)
        labels = torch.full(shape, -100)
        mask, types, positions = torch.zeros(3, *shape, dtype=torch.int64)
        for number, (ids, targets, second) in enumerate(made):
            length = len(ids)
            input_ids[number, :length] = torch.tensor(ids)
            labels[number, :length] = torch.tensor(targets)
            mask[number, :length] = 1
            types[number, second:length] = 1
            if self._rng.random() < _MOVED_SHARE:
                positions[number] += self._rng.randint(0, MAX_POSITIONS - longest)
        positions += torch.arange(longest)
        return Batch(input_ids, mask, types, positions, labels)

    def _masked(self, row: _Row) -> tuple[list[int], list[int], int]:
        """Return a row's ids and labels, with whole words masked, and its second text's start."""
        chosen = self._choose(row.words)
        ids, labels, second = [_CLS], [-100], 0
        for number, word in enumerate(row.words):
            if number == row.second:
                ids.append(_SEP)
                labels.append(-100)
                second = len(ids)
            pieces = self._spell(word)
            if len(ids) + len(pieces) > MAX_POSITIONS - 2:
                break
            ids += [self._corrupted(piece) for piece in pieces] if number in chosen else pieces
            labels += pieces if number in chosen else [-100] * len(pieces)
        ids.append(_SEP)
        labels.append(-100)
        return ids, labels, second or len(ids)

    def _choose(self, words: list[str]) -> set[int]:
        """Choose the words to mask, by their weights."""
        count = max(1, round(MASKED_SHARE * len(words)))
        keys = [self._rng.random() ** (1 / self._weights[word]) for word in words]
        return set(sorted(range(len(words)), key=keys.__getitem__)[-count:])

    def _corrupted(self, piece: int) -> int:
        draw = self._rng.random()
        if draw < 0.8:
            return _MASK
        return piece if draw < 0.9 else self._rng.randrange(len(SPECIAL), len(self._ids))

    def _spell(self, word: str) -> list[int]:
        """Return a word's ids: its longest pieces, but shorter ones for a few words."""
        spelled = self._rng.random() < _SPELLED_SHARE
        longest = self._rng.randint(2, 5) if spelled else len(word)
        pieces: list[int] = []
        start = 0
        while start < len(word):
            before = "##" if start else ""
            for end in range(min(len(word), start + longest), start, -1):
                if (piece := self._ids.get(before + word[start:end])) is not None:
                    break
            else:
                return [_UNK]
            pieces.append(piece)
            start = end
        return pieces
