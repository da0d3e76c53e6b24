"""A multi-vector model behind the routes of rerankers and of token vectors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

DOCUMENTS = ["the cat sat!", "who is the president?", "london", "the cat sat on the mat " * 12]


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_rerank_in_the_shape_of_cohere(
    client: Callable[..., Any], runtime: Callable[[str], Any], path: str
) -> None:
    http = client("colbert", "embedder")
    body = {"query": "who", "documents": DOCUMENTS, "return_documents": True, "top_n": 3}
    got = http.post(path, body).json["results"]
    expected = runtime("colbert").rank("who", DOCUMENTS, top_k=3)
    assert [one["index"] for one in got] == [one["corpus_id"] for one in expected]
    scores = [one["score"] for one in expected]
    np.testing.assert_allclose([one["relevance_score"] for one in got], scores, atol=1e-5)
    assert max(scores) > 1, "a MaxSim is a sum"


def test_rerank_in_the_shape_of_tei(
    client: Callable[..., Any], runtime: Callable[[str], Any]
) -> None:
    http = client("colbert")
    expected = runtime("colbert").rank("who", DOCUMENTS)
    for raw_scores in (False, True):
        body = {"query": "who", "texts": DOCUMENTS, "raw_scores": raw_scores}
        answer = http.post("/rerank", body)
        assert [one["index"] for one in answer.json] == [one["corpus_id"] for one in expected]
        scores = [one["score"] for one in answer.json]
        np.testing.assert_allclose(scores, [one["score"] for one in expected], atol=1e-5)
    # One document was cut; the query has 13 tokens, and is not one of the documents.
    assert answer.headers["x-bertrt-truncated"] == "1"
    refused = http.post("/rerank", {"query": "who", "texts": DOCUMENTS, "truncate": False})
    assert refused.status in (413, 422)
    assert http.post("/rerank", {"query": "who", "texts": []}).status == 400


def test_embed_all_gives_a_documents_vectors(
    client: Callable[..., Any], runtime: Callable[[str], Any]
) -> None:
    http = client("colbert")
    answer = http.post("/embed_all", {"inputs": DOCUMENTS}).json
    expected = runtime("colbert").embed_tokens(DOCUMENTS, kind="document")
    assert len(answer) == len(expected)
    for got, vectors in zip(answer, expected, strict=True):
        np.testing.assert_allclose(got, vectors, atol=1e-5)


def test_what_it_cannot_do(client: Callable[..., Any]) -> None:
    http = client("colbert")
    assert http.post("/embed", {"inputs": "a"}).status == 424
    # As clients of TEI accept it: see tests/clients/with_tei_client.py.
    assert http.get("/info").json["model_type"] == {"embedding": {"pooling": "cls"}}
    answer = http.post("/v1/predict", {"inputs": "london", "parameters": {"kind": "query"}}).json
    assert np.shape(answer) == (13, 7)
    signature = http.get("/v2/models/colbert").json
    assert [one["name"] for one in signature["outputs"]] == ["answer", "token_embeddings"]
