"""What int8 graphs are calibrated and judged on: no held-out text or query sets a scale."""

from collections import Counter
from pathlib import Path

import pytest

from bertrt.errors import ExportError
from bertrt.export.heads import head_for
from bertrt.export.quantize.pairs import heldout_queries
from bertrt.export.quantize.samples import pair_samples, text_samples

CLASSIFIER = head_for("text-classification", None)


def write_pairs(path: Path, count: int) -> Path:
    path.write_text("".join(f"query {i}\tpassage {i}\n" for i in range(count)))
    return path


def test_the_built_in_texts() -> None:
    samples = text_samples(None, CLASSIFIER)
    assert samples.report == {"texts": "built-in", "calibrated_on": 380, "held_out": 380}
    assert len(samples.held_out.rows) == 380 + 95
    assert not samples.held_out.lists
    assert {text for text, _ in samples.few.rows} <= {text for text, _ in samples.held_out.rows}


def test_the_built_in_pairs() -> None:
    samples = pair_samples(None)
    assert samples.report == {"pairs": "built-in", "calibrated_on": 304, "held_out": 480}
    assert samples.held_out.lists == (15,) * 32
    for part in (samples.few, samples.alone):
        assert part.lists == (len(part.rows),)
        assert set(part.rows) <= set(samples.held_out.rows)
    assert [len(samples.few.rows), len(samples.alone.rows)] == [32, 16]
    # Good answers and poor ones.
    own = {(query.text, passage) for query in heldout_queries() for passage in query.passages}
    assert 4 <= sum(row in own for row in samples.few.rows) <= 28
    assert len({query for query, _ in samples.few.rows}) == 32


@pytest.mark.parametrize(("count", "lists"), [(32, 8), (100, 25), (256, 64), (1000, 63)])
def test_every_fourth_query_is_held_out_at_most_64(tmp_path: Path, count: int, lists: int) -> None:
    samples = pair_samples(write_pairs(tmp_path / "pairs.tsv", count))
    assert samples.held_out.lists == (min(lists, 15),) * lists
    kept = {query for query, _ in samples.calibration.rows}
    held_out = Counter(query for query, _ in samples.held_out.rows)
    assert len(held_out) == lists
    assert len(kept) == count - lists
    assert not kept & set(held_out)
    passages = [
        {passage for _, passage in part.rows} for part in (samples.calibration, samples.held_out)
    ]
    assert not passages[0] & passages[1]
    assert samples.report["calibrated_on"] == 2 * len(kept)


def test_pairs_are_refused_where_texts_are_read(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "pairs.tsv", 40)
    with pytest.raises(ExportError, match=r"pairs\.tsv has pairs, which are for rerankers"):
        text_samples(path, CLASSIFIER)
    # A text may hold a tab, or be JSON.
    path.write_text(path.read_text() + "a text\n")
    assert text_samples(path, CLASSIFIER).report["held_out"] == 11


def test_texts_are_refused_where_pairs_are_read(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("a text\n" * 40)
    with pytest.raises(ExportError, match=r"line 1 of .* is 'a text', and a reranker") as caught:
        pair_samples(path)
    assert "\n" not in str(caught.value)
