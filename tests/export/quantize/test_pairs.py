"""The built-in pairs of rerankers, a user's file of pairs, and the lists that are ranked."""

import json
import unicodedata
from itertools import product
from pathlib import Path

import pytest

from bertrt.errors import ExportError
from bertrt.export.quantize.pairs import (
    FEWEST_QUERIES,
    Query,
    calibration_queries,
    heldout_queries,
    is_pair,
    lists_to_rank,
    pairs_with_others,
    read_queries,
)
from bertrt.export.quantize.texts import calibration_texts, heldout_texts

SETS = {"calibration": calibration_queries(), "heldout": heldout_queries()}
SCRIPTS = ["LATIN", "CYRILLIC", "ARABIC", "CJK", "HIRAGANA", "HANGUL"]

both_sets = pytest.mark.parametrize("queries", SETS.values(), ids=SETS)


def test_sizes_of_the_built_in_sets() -> None:
    assert [len(query.passages) for query in SETS["calibration"]] == [2] * 76
    assert [len(query.passages) for query in SETS["heldout"]] == [4] * 32


@both_sets
def test_every_kind_of_pair_is_included(queries: list[Query]) -> None:
    passages = [passage for query in queries for passage in query.passages]
    for script in SCRIPTS:
        for texts in ([query.text for query in queries], passages):
            assert any(unicodedata.name(c, "").startswith(script) for text in texts for c in text)
    assert any("?" in query.text for query in queries)
    for sign in ["()", "°", "%", "`", "="]:
        assert any(sign in passage for passage in passages), sign
    lengths = [len(passage.split()) for passage in passages]
    assert min(lengths) < 5
    assert max(lengths) > 100
    assert all(text == text.strip() and text and "\t" not in text for text in passages)


def test_the_sets_have_nothing_in_common() -> None:
    everything = [
        text.casefold()
        for queries in SETS.values()
        for query in queries
        for text in (query.text, *query.passages)
    ]
    texts = {text.casefold() for text in calibration_texts() + heldout_texts()}
    assert len(set(everything)) == len(everything)
    assert not texts & set(everything)
    for one, other in product(*SETS.values()):
        words, others = set(one.text.lower().split()), set(other.text.lower().split())
        assert len(words & others) < 0.7 * len(words | others), (one.text, other.text)


def test_a_list_has_its_own_passages_and_others() -> None:
    for queries in SETS.values():
        lists = lists_to_rank(queries)
        assert [len(entry) for entry in lists] == [15] * len(queries)
        for query, entry in zip(queries, lists, strict=True):
            assert {text for text, _ in entry} == {query.text}
            passages = [passage for _, passage in entry]
            assert tuple(passages[: len(query.passages)]) == query.passages
            assert len(set(passages)) == 15
    assert lists_to_rank(SETS["heldout"]) == lists_to_rank(SETS["heldout"])


def test_lists_of_few_queries_and_of_equal_passages() -> None:
    queries = [Query("a", ("1", "2")), Query("b", ("2", "3")), Query("c", ("3", "1"))]
    lists = [[passage for _, passage in entry] for entry in lists_to_rank(queries)]
    # Of "b" the first passage, which "a" has; of "c" the second, which "a" has too.
    assert lists == [["1", "2"], ["2", "3"], ["3", "1"]]
    many = [Query("q", tuple(map(str, range(40)))), Query("r", ("x",))]
    assert [len(entry) for entry in lists_to_rank(many)] == [40, 2]


def test_pairs_that_belong_together_and_pairs_that_do_not() -> None:
    pairs = pairs_with_others([Query("a", ("1", "2")), Query("b", ("3",))])
    assert pairs == [("a", "1"), ("a", "2"), ("a", "3"), ("b", "3"), ("b", "1"), ("b", "2")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("who\tJohn", ("who", "John")),
        (" who \t John ", ("who", "John")),
        ('{"query": "who", "passage": "John\\tSmith", "score": 3}', ("who", "John\tSmith")),
        ('["who", "John"]', ("who", "John")),
        ("[solved] who\tJohn", ("[solved] who", "John")),
        ("a text", None),
        ("who\t", None),
        ("a\tb\tc", None),
        ('["who"]', None),
        ('["who", "John", "Mary"]', None),
        ('["who", ""]', None),
        ('{"query": "who"}', None),
        ('{"query": "who", "passage": 3}', None),
        ('["who", "\\ud800"]', None),
        ("[" * 100_000, None),
        ("{", None),
    ],
)
def test_a_line_of_a_file(tmp_path: Path, line: str, expected: tuple[str, str] | None) -> None:
    assert is_pair(line.strip()) is (expected is not None)
    path = tmp_path / "pairs.tsv"
    more = [f"query {i}\tpassage {i}" for i in range(FEWEST_QUERIES)]
    path.write_text("\n".join([*more, "", line]), encoding="utf-8")
    if expected is not None:
        assert read_queries(path)[-1] == Query(expected[0], (expected[1],))
        return
    with pytest.raises(
        ExportError, match=rf"line {FEWEST_QUERIES + 2} of the .*calibrated on pairs"
    ):
        read_queries(path)


def test_passages_of_one_query_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    lines = [json.dumps([f"q{i % FEWEST_QUERIES}", f"p{i}"]) for i in range(2 * FEWEST_QUERIES)]
    lines += lines[:1]
    path.write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    queries = read_queries(path)
    assert len(queries) == FEWEST_QUERIES
    assert queries[0] == Query("q0", ("p0", f"p{FEWEST_QUERIES}"))
    assert queries[3] == Query("q3", ("p3", f"p{3 + FEWEST_QUERIES}"))


def test_too_few_queries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"same\tpassage {i}\n" for i in range(100)))
    with pytest.raises(
        ExportError, match=rf"pairs of 1 queries, and at least {FEWEST_QUERIES} are"
    ):
        read_queries(path)
