"""The mixed-lengths corpus: seeded, log-normal, and of the documented lengths in tokens."""

from importlib import resources

import numpy as np
import pytest
from tokenizers import Tokenizer

from benchmarks.data.corpus import LONGEST, QUERY_LENGTHS, SHORTEST, candidates, mixed


@pytest.fixture(scope="module")
def lengths():
    file = resources.files("bertrt.export.demo") / "tokenizer.json"
    tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    return lambda texts: np.array([len(tokenizer.encode(text).ids) for text in texts])


def test_token_lengths_match_the_documented_distribution(lengths):
    found = lengths(mixed(256))
    assert 26 <= found.mean() <= 30
    assert 170 <= found.max() <= 200
    # Log-normal: the median lies well below the mean.
    assert np.median(found) < 0.8 * found.mean()


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_texts_are_within_the_length_limits(lengths, seed):
    found = lengths(mixed(300, seed))
    assert found.min() >= SHORTEST
    # Some words are two tokens, but texts still fit the models' lowest limit.
    assert found.max() <= 256
    assert LONGEST < 256


def test_texts_depend_only_on_the_arguments():
    assert mixed(20, 3) == mixed(20, 3)
    assert mixed(20, 3) != mixed(20, 4)
    assert len(set(mixed(1024))) > 1000


def test_texts_are_english_sentences():
    for text in mixed(40, 1):
        assert text.endswith(".")
        assert " ." not in text
        assert "  " not in text


def test_texts_for_fill_mask_have_one_mask_each():
    assert all(text.count("[MASK]") == 1 for text in mixed(300, 2, mask=True))
    assert not any("[MASK]" in text for text in mixed(50, 2))


def test_every_query_has_its_own_passages_of_a_paragraphs_length(lengths):
    queries = candidates(4, 50)
    assert [len(passages) for _, passages in queries] == [50] * 4
    texts = [text for query, passages in queries for text in (query, *passages)]
    assert len(set(texts)) == 4 * 51
    found = lengths([text for _, passages in queries for text in passages])
    assert 70 <= found.mean() <= 85
    assert found.max() > 2 * found.mean() > 4 * found.min()
    # The longest pair fits the models' limit of 512.
    assert found.max() <= 256
    shortest, longest = QUERY_LENGTHS
    for query, _ in queries:
        assert shortest <= lengths([query])[0] - 2 <= longest + 4  # some words are two tokens


def test_queries_depend_only_on_the_arguments():
    assert candidates(2, 5, 3) == candidates(2, 5, 3)
    assert candidates(2, 5, 3) != candidates(2, 5, 4)
    assert candidates(2, 5, 3)[0] != candidates(2, 5, 3)[1]
