"""The class with sentence-transformers' `encode`: its answers are those of the real one."""

from typing import Any

import numpy as np
import pytest


@pytest.fixture
def encoder(recipe: Any, folder: str) -> Any:
    return recipe("sentence-transformers' `encode`").SentenceEncoder(folder)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain", {}),
        ("plain", {"batch_size": 1, "show_progress_bar": False, "device": "cpu"}),
        ("query", {"prompt_name": "query"}),
        ("prompt", {"prompt": "Plants "}),
        ("unit", {"normalize_embeddings": True}),
        ("unit_24", {"normalize_embeddings": True, "truncate_dim": 24}),
        ("binary", {"precision": "ubinary"}),
    ],
)
def test_encode(encoder: Any, expected: Any, name: str, options: Any) -> None:
    answer = encoder.encode(expected["texts"], **options)
    assert isinstance(answer, np.ndarray)
    np.testing.assert_allclose(answer, expected[name], rtol=0, atol=1e-5)


def test_one_text_and_lists(encoder: Any, expected: Any) -> None:
    texts = expected["texts"]
    one = encoder.encode(texts[1])
    assert one.shape == (96,)
    np.testing.assert_allclose(one, expected["plain"][1], rtol=0, atol=1e-5)
    answer = encoder.encode(texts, convert_to_numpy=False)
    assert type(answer) is list
    np.testing.assert_allclose(answer, expected["plain"], rtol=0, atol=1e-5)


def test_queries_documents_and_similarity(encoder: Any, expected: Any) -> None:
    texts = expected["texts"]
    for name in ("query", "document"):
        answer = getattr(encoder, f"encode_{name}")(texts)
        np.testing.assert_allclose(answer, expected[name], rtol=0, atol=1e-5)
    vectors = encoder.encode(texts)
    answer = encoder.similarity(vectors, vectors)
    np.testing.assert_allclose(answer, expected["similarity"], rtol=0, atol=1e-5)
    assert encoder.get_sentence_embedding_dimension() == 96
