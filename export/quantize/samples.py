"""What int8 graphs are calibrated and judged on: texts and pairs of them, or lists to rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from bertrt.errors import ExportError
from bertrt.export.heads import HeadSpec
from bertrt.export.quantize.pairs import (
    Pair,
    Query,
    calibration_queries,
    heldout_queries,
    is_pair,
    lists_to_rank,
    pairs_with_others,
    read_queries,
)
from bertrt.export.quantize.texts import calibration_texts, heldout_texts, read_texts

__all__ = ["Row", "Sample", "Samples", "pair_samples", "rows_of", "text_samples"]

# A text alone, or a pair.
Row = tuple[str, str | None]

# A question always has a context. With other tasks of pairs, every other text is the first of one.
# With the rest every fourth text is, and is also encoded alone: "thanks!" was far worse alone than
# in its pair.
_PAIR_TASKS = ("next-sentence-prediction", "multiple-choice", "pretraining")
# Every fourth of a user's own texts or queries is held out, and of queries at most so many: each
# makes a list of 15 pairs.
_HELD_OUT, _MOST_LISTS = 4, 64
# Numbers of texts: to compare layers with each other, and to run alone as well as in batches.
_WEIGHED, _ALONE = 32, 16


@dataclass(frozen=True)
class Sample:
    """What a graph is run on.

    Attributes:
        rows: texts and pairs.
        lists: for a reranker, how many of the rows make each list to rank, in their order; empty
            for other heads.
    """

    rows: Sequence[Row]
    lists: tuple[int, ...] = ()


@dataclass(frozen=True)
class Samples:
    """The samples of an export.

    Attributes:
        calibration: sets the scales.
        held_out: judges mixtures.
        few: compares layers with each other.
        alone: is run alone as well as in batches.
        report: what they are, for the manifest.
    """

    calibration: Sample
    held_out: Sample
    few: Sample
    alone: Sample
    report: dict[str, Any]


def text_samples(calibration: Path | None, head: HeadSpec) -> Samples:
    """Return samples of the built-in texts, or of a user's, of which a part is held out.

    Raises ExportError for a file of texts that cannot be used, or one of pairs.
    """
    if calibration is None:
        kept, held_out = calibration_texts(), heldout_texts()
    else:
        texts = read_texts(calibration)
        if all(map(is_pair, texts)):
            raise ExportError(
                f"the calibration file {calibration} has pairs, which are for rerankers (text "
                "classification with one label, and no problem_type 'regression' in config.json): "
                "write one text a line"
            )
        kept = [text for i, text in enumerate(texts) if i % _HELD_OUT]
        held_out = texts[::_HELD_OUT]

    def sample(texts: Sequence[str]) -> Sample:
        return Sample(rows_of(texts, head))

    return Samples(
        sample(kept),
        sample(held_out),
        sample(_some(held_out, _WEIGHED)),
        sample(_some(held_out, _ALONE)),
        _report("texts", calibration, len(kept), len(held_out)),
    )


def pair_samples(calibration: Path | None) -> Samples:
    """Return samples of the built-in pairs, or of a user's, of which some queries are held out.

    Half of the calibration's pairs do not belong together, and most of each list's do not.

    Raises ExportError for a file of pairs that cannot be used.
    """
    kept: Sequence[Query]
    held_out: Sequence[Query]
    if calibration is None:
        kept, held_out = calibration_queries(), heldout_queries()
    else:
        queries = read_queries(calibration)
        every = max(_HELD_OUT, ceil(len(queries) / _MOST_LISTS))
        kept = [query for i, query in enumerate(queries) if i % every]
        held_out = queries[::every]
    pairs = pairs_with_others(kept)
    lists = lists_to_rank(held_out)
    judged = [pair for entry in lists for pair in entry]
    mixed = _mixed(lists)
    few, alone = mixed[:_WEIGHED], mixed[:_ALONE]
    return Samples(
        Sample(pairs),
        Sample(judged, tuple(map(len, lists))),
        Sample(few, (len(few),)),
        Sample(alone, (len(alone),)),
        _report("pairs", calibration, len(pairs), len(judged)),
    )


def rows_of(texts: Sequence[str], head: HeadSpec) -> list[Row]:
    """Return texts as the head's users give them: alone, with the next one, or both."""
    pairs = [(text, texts[(i + 1) % len(texts)]) for i, text in enumerate(texts)]
    rows: list[Row] = [(text, None) for text in texts]
    if head.task == "question-answering":
        rows = list(pairs)
    elif head.task in _PAIR_TASKS:
        rows[1::2] = pairs[1::2]
    else:
        rows += pairs[1::4]
    return rows


def _some(texts: Sequence[str], count: int) -> Sequence[str]:
    """Return about so many of the texts, from all of them."""
    return texts[:: max(1, len(texts) // count)]


def _mixed(lists: Sequence[Sequence[Pair]]) -> list[Pair]:
    """Return the pairs of lists in another order: the next is of another query and place."""
    longest = max(map(len, lists))
    return [
        entry[(place + turn) % len(entry)]
        for turn in range(longest)
        for place, entry in enumerate(lists)
    ]


def _report(kind: str, path: Path | None, calibrated_on: int, held_out: int) -> dict[str, Any]:
    source = "built-in" if path is None else path.name
    return {kind: source, "calibrated_on": calibrated_on, "held_out": held_out}
