"""Re-ranking as Cohere, Jina and infinity ask for it, and infinity's classification."""

from collections.abc import Callable
from typing import Any

import pytest

DOCUMENTS = ["the cat sat", "who is the president?", "london"]


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_rerank(client: Callable[..., Any], runtime: Callable[[str], Any], path: str) -> None:
    http = client("reranker", "embedder")
    body = {"model": "any", "query": "who", "documents": DOCUMENTS, "return_documents": True}
    answer = http.post(path, body).json
    expected = runtime("reranker").rank("who", DOCUMENTS)
    got = answer["results"]
    assert [one["index"] for one in got] == [one["corpus_id"] for one in expected]
    for one, other in zip(got, expected, strict=True):
        assert abs(one["relevance_score"] - other["score"]) < 1e-5
        text = DOCUMENTS[one["index"]]
        assert one["document"] == (text if path == "/rerank" else {"text": text})
    assert answer["usage"]["total_tokens"] > 0
    assert (answer["object"], answer["model"]) == ("rerank", "reranker")


def test_objects_and_top_n(client: Callable[..., Any]) -> None:
    http = client("reranker")
    objects = [{"text": text} for text in DOCUMENTS]
    whole = http.post("/v2/rerank", {"query": "who", "documents": objects}).json["results"]
    assert "document" not in whole[0]
    for top_n in (1, 2, 8000):
        body = {"query": "who", "documents": DOCUMENTS, "top_n": top_n}
        assert http.post("/v2/rerank", body).json["results"] == whole[:top_n]


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
@pytest.mark.parametrize("name", ["reranker", "colbert"])
def test_max_tokens_per_doc(
    client: Callable[..., Any], runtime: Callable[[str], Any], path: str, name: str
) -> None:
    http = client(name)
    documents = ["the cat sat on the mat", "Ünknöwable, london the president " * 9, "", "london"]
    # What the model reads of them, by its own tokenizer's tokens.
    begins = ["the cat sat", documents[1][: len("Ünknöwable, london")], "", "london"]
    most = max(
        len(runtime(name).tokenizer.encode_whole(text, special_tokens=False).ids)
        for text in begins[1:2]
    )
    begins[0] = " ".join(documents[0].split()[:most])
    body = {"query": "who", "documents": documents, "return_documents": True}
    answer = http.post(path, {**body, "max_tokens_per_doc": most, "rank_fields": ["text"]})
    expected = runtime(name).rank("who", begins)
    results = answer.json["results"]
    assert [one["index"] for one in results] == [one["corpus_id"] for one in expected]
    for one, other in zip(results, expected, strict=True):
        assert abs(one["relevance_score"] - other["score"]) < 1e-5
        # A document comes back whole.
        given = documents[one["index"]]
        assert one["document"] == (given if path == "/rerank" else {"text": given})
    cut = sum(begin != text for begin, text in zip(begins, documents, strict=True))
    assert answer.headers["x-bertrt-truncated"] == str(cut)
    whole = http.post(path, body).json["results"]
    assert [one["relevance_score"] for one in whole] != [one["relevance_score"] for one in results]
    # Cohere's default is more than the model reads.
    assert http.post(path, {**body, "max_tokens_per_doc": 4096}).json["results"] == whole


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"query": "a", "documents": []}, 400),
        ({"query": "a", "documents": [3]}, 422),
        ({"query": "a", "documents": ["b"], "top_n": 0}, 422),
        ({"query": "a", "documents": ["b"], "top_n": -1}, 422),
        ({"query": "a", "documents": ["b"], "max_tokens_per_doc": 0}, 422),
        ({"query": "a", "documents": ["b"], "max_tokens_per_doc": "4"}, 422),
        ({"query": "a", "documents": [{"text": "b"}], "rank_fields": ["title"]}, 422),
        ({"query": "a", "documents": [{"text": "b"}], "rank_fields": "text"}, 422),
        ({"documents": ["b"]}, 422),
        ({"query": 3, "documents": ["b"]}, 422),
    ],
)
def test_errors(client: Callable[..., Any], body: Any, status: int) -> None:
    answer = client("reranker").post("/v2/rerank", body)
    assert answer.status == status
    assert answer.json["message"] == answer.json["detail"] == answer.json["error"]["message"]


def test_classify(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    answer = client("nli").post("/classify", {"input": DOCUMENTS, "model": "nli"}).json
    expected = runtime("nli")(DOCUMENTS, top_k=None)
    for got, other in zip(answer["data"], expected, strict=True):
        assert [one["label"] for one in got] == [one["label"] for one in other]
    assert answer["object"] == "classify"
