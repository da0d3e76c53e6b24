"""Pairs of a query and a passage for the int8 export of rerankers, and lists of them to rank.

Both built-in sets are of the kinds that people rank: searches, questions, products, code, errors,
law, medicine, mail and more than ten languages, from two words to over two hundred. The passages of
a query stand from the best answer to one that only shares its subject or its words. The sets have
no query and no passage in common.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from bertrt.errors import ExportError, shorten
from bertrt.export.quantize.texts import read_lines, split_lines

__all__ = [
    "FEWEST_QUERIES",
    "Pair",
    "Query",
    "calibration_queries",
    "heldout_queries",
    "is_pair",
    "lists_to_rank",
    "pairs_with_others",
    "read_queries",
]

# With fewer, a quarter makes lists so short that one order of two passages decides.
FEWEST_QUERIES = 32
# The passages of a list: the first page of a search and a little more.
_LIST = 15

Pair = tuple[str, str]


@dataclass(frozen=True)
class Query:
    """A query and the passages that belong to it."""

    text: str
    passages: tuple[str, ...]


def calibration_queries() -> list[Query]:
    """Return the 76 built-in queries, each with two passages, that scales are measured on."""
    return _built_in("calibration_pairs.tsv")


def heldout_queries() -> list[Query]:
    """Return the 32 built-in queries, each with four passages, on which rerankers are judged."""
    return _built_in("heldout_pairs.tsv")


def read_queries(path: Path) -> list[Query]:
    """Read a user's calibration file for a reranker: UTF-8, one pair a line.

    A line is a query, a tab and a passage, or JSON: an object with "query" and "passage", or a list
    of the two. Blank lines are skipped. Lines with the same query are its passages.

    Raises ExportError if the file cannot be read, is not UTF-8, has a line that is no pair, or
    fewer than `FEWEST_QUERIES` queries.
    """
    pairs = []
    for number, line in read_lines(path):
        pair = _pair(line)
        if pair is None:
            raise ExportError(
                f"line {number} of the calibration file {path} is {shorten(line)}, and a reranker "
                "is calibrated on pairs: write a query, a tab and a passage, or "
                '{"query": …, "passage": …} (if this model reads single texts, set '
                "problem_type to 'regression' in its config.json)"
            )
        pairs.append(pair)
    queries = _by_query(pairs)
    if len(queries) < FEWEST_QUERIES:
        raise ExportError(
            f"the calibration file {path} has pairs of {len(queries)} queries, and at least "
            f"{FEWEST_QUERIES} are needed: add pairs like those that the model will score"
        )
    return queries


def is_pair(line: str) -> bool:
    """Whether a line of a calibration file is a pair."""
    return _pair(line) is not None


def pairs_with_others(queries: Sequence[Query]) -> list[Pair]:
    """Return every query with its own passages and, as pairs that do not belong, the next's."""
    pairs = []
    for query, other in zip(queries, (*queries[1:], queries[0]), strict=True):
        pairs += [(query.text, passage) for passage in query.passages]
        pairs += [(query.text, passage) for passage in other.passages]
    return pairs


def lists_to_rank(queries: Sequence[Query]) -> list[list[Pair]]:
    """Return a list of pairs for each query: its own passages, and others' to make it 15.

    Of each of the queries after it one passage is taken, the first of the next, the second of the
    one after it, and so on, so that a list has good and poor answers to other queries.
    """
    return [
        [(query.text, passage) for passage in _with_others(index, queries)]
        for index, query in enumerate(queries)
    ]


def _with_others(index: int, queries: Sequence[Query]) -> list[str]:
    passages = list(queries[index].passages)
    for step in range(1, len(queries)):
        others = queries[(index + step) % len(queries)].passages
        other = others[(step - 1) % len(others)]
        if len(passages) >= _LIST:
            break
        if other not in passages:
            passages.append(other)
    return passages


def _pair(line: str) -> Pair | None:
    """Return a line's query and passage; None if it is no pair."""
    parts = _json_pair(line) if line[0] in "{[" else None
    # A query may begin with a bracket too.
    query, *passage = (part.strip() for part in parts or line.split("\t"))
    return (query, passage[0]) if len(passage) == 1 and query and passage[0] else None


def _json_pair(line: str) -> list[str] | None:
    """Return the two strings of a line of JSON; None if it is anything else."""
    try:
        data = json.loads(line)
        parts = [data["query"], data["passage"]] if isinstance(data, dict) else data
        "".join(parts).encode()  # not half of a surrogate pair, which no tokenizer takes
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return parts if len(parts) == 2 else None


def _by_query(pairs: Sequence[Pair]) -> list[Query]:
    """Join the different passages of each query, all in the order in which they first occur."""
    passages: dict[str, dict[str, None]] = {}
    for query, passage in pairs:
        passages.setdefault(query, {})[passage] = None
    return [Query(query, tuple(found)) for query, found in passages.items()]


def _built_in(name: str) -> list[Query]:
    content = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return _by_query([pair for _, line in split_lines(content) if (pair := _pair(line))])
