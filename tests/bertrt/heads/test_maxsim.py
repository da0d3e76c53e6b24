"""MaxSim is that of sentence-transformers, in blocks of any size."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from bertrt.errors import InputError
from bertrt.heads import maxsim as module
from bertrt.heads.maxsim import maxsim

# Sums of up to 40 products of vectors of length 1, in float32 and in another order.
ATOL = 1e-5


def vectors(lengths: list[int], size: int = 24, seed: int = 0) -> list[np.ndarray]:
    """Return random vectors of length 1 for each text."""
    random = np.random.default_rng(seed)
    arrays = [random.normal(size=(length, size)) for length in lengths]
    return [
        (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)
        for array in arrays
    ]


def by_definition(query: np.ndarray, document: np.ndarray) -> float:
    return float((query.astype(np.float64) @ document.T).max(axis=1).sum())


QUERIES, DOCUMENTS = vectors([32, 1, 7, 32, 40]), vectors([5, 180, 1, 33, 2, 64, 3], seed=1)


@pytest.mark.parametrize("most", [1, 40, 100, 10_000])
def test_it_is_the_definition_in_blocks_of_any_size(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(module, "_QUERY_VECTORS", most)
    monkeypatch.setattr(module, "_DOCUMENT_VECTORS", most)
    expected = [[by_definition(query, document) for document in DOCUMENTS] for query in QUERIES]
    scores = maxsim(QUERIES, DOCUMENTS)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=ATOL)
    assert np.ptp(scores, axis=1).min() > 0.1


@pytest.mark.parametrize("mean", [False, True])
def test_it_is_that_of_sentence_transformers(mean: bool) -> None:
    similarity = pytest.importorskip("sentence_transformers.util.similarity")
    queries, documents = [*QUERIES, *vectors([0])], [*vectors([0]), *DOCUMENTS]
    expected = similarity.maxsim(queries, documents, length_normalize=mean).numpy()
    np.testing.assert_allclose(maxsim(queries, documents, mean=mean), expected, atol=ATOL)
    # A document without vectors is below every other, also for a query without any.
    assert (maxsim(queries, documents)[:, 0] < -1e6).all()


def test_vectors_that_are_not_of_length_1_and_all_below_0() -> None:
    query, document = 3 * np.abs(QUERIES[2]), -2 * np.abs(DOCUMENTS[3])
    scores = maxsim(query, document)
    assert scores[0, 0] < -1
    np.testing.assert_allclose(scores, [[by_definition(query, document)]], rtol=1e-5)


def test_single_arrays_stacks_and_none() -> None:
    one = maxsim(QUERIES[0], DOCUMENTS)
    assert one.shape == (1, len(DOCUMENTS))
    np.testing.assert_array_equal(one, maxsim([QUERIES[0]], DOCUMENTS))
    stack = np.stack([QUERIES[0], QUERIES[3]])
    np.testing.assert_array_equal(maxsim(stack, DOCUMENTS), maxsim(list(stack), DOCUMENTS))
    assert maxsim([], DOCUMENTS).shape == (0, len(DOCUMENTS))
    assert maxsim(QUERIES, []).shape == (len(QUERIES), 0)


@pytest.mark.parametrize(
    ("queries", "match"),
    [
        ([np.ones(24)], r"queries has an array of shape \[24\] and dtype float64: give a list"),
        ([np.full((2, 24), "a")], r"queries has an array of shape \[2, 24\] and dtype <U1"),
        ("a text", r"queries has an array of shape \[\] and dtype <U6"),
        ([np.ones((2, 23))], "the vectors have sizes 23, 24: give queries and documents of one"),
    ],
)
def test_arrays_that_are_no_vectors(queries: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        maxsim(queries, DOCUMENTS)


def test_memory_does_not_grow_with_the_number_of_documents() -> None:
    queries = vectors([32] * 16, 16)
    documents = [document for _ in range(20) for document in vectors([180] * 50, 16)]
    tracemalloc.start()
    maxsim(queries, documents)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    everything = 4 * 16 * 32 * len(documents) * 180
    assert peak < 60 << 20 < everything / 4
