"""OpenAI's embeddings and models."""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

TEXTS = ["the cat sat on the mat", "", "london"]


def test_embeddings(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    http, rt = client("embedder"), runtime("embedder")
    for path in ("/v1/embeddings", "/embeddings", "/openai/v1/embeddings"):
        answer = http.post(path, {"input": TEXTS, "model": "text-embedding-3-small"})
        assert answer.status == 200
    found = answer.json
    assert (found["object"], found["model"]) == ("list", "embedder")
    assert [one["index"] for one in found["data"]] == [0, 1, 2]
    got = np.array([one["embedding"] for one in found["data"]], np.float32)
    np.testing.assert_allclose(got, rt.embed(TEXTS), rtol=0, atol=1e-5)
    tokens = sum(len(rt.tokenizer.encode(text)) for text in TEXTS)
    assert found["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_base64_has_the_same_numbers(client: Callable[..., Any]) -> None:
    http = client("embedder")
    body = {"input": "the cat", "model": "embedder", "dimensions": 7}
    plain = http.post("/v1/embeddings", body).json["data"][0]["embedding"]
    packed = http.post("/v1/embeddings", {**body, "encoding_format": "base64"}).json
    vector = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    np.testing.assert_array_equal(vector, np.array(plain, np.float32))
    np.testing.assert_allclose(np.linalg.norm(vector), 1, atol=1e-6)


def test_token_ids(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    http, rt = client("embedder"), runtime("embedder")
    ids = rt.tokenizer.encode("the cat").ids
    for value in (ids, [ids]):
        found = http.post("/v1/embeddings", {"input": value}).json["data"]
        np.testing.assert_allclose(found[0]["embedding"], rt.embed("the cat"), atol=1e-5)


def test_no_dimensions_are_all_of_them_for_infinity(
    client: Callable[..., Any], runtime: Callable[[str], Any]
) -> None:
    # infinity's own client sends 0 unless it is told otherwise.
    http, vector = client("embedder"), runtime("embedder").embed("the cat")
    for path in ("/embeddings", "/models/embedder/embeddings"):
        found = http.post(path, {"input": "the cat", "dimensions": 0}).json["data"]
        np.testing.assert_allclose(found[0]["embedding"], vector, atol=1e-5)
    assert http.post("/embeddings", {"input": "a", "dimensions": -1}).status == 400


def test_ids_of_another_vocabulary(client: Callable[..., Any]) -> None:
    answer = client("embedder").post("/v1/embeddings", {"input": [[5, 6], [5, 999_999]]})
    assert answer.status == 400
    assert "the token id 999999" in answer.json["error"]["message"]
    assert "check_embedding_ctx_length=False" in answer.json["error"]["message"]


def test_models(client: Callable[..., Any]) -> None:
    http = client("embedder", "reranker")
    listed = http.get("/v1/models").json
    assert http.get("/models").json == listed
    assert [one["id"] for one in listed["data"]] == ["embedder", "reranker"]
    assert "rerank" in listed["data"][1]["capabilities"]
    assert http.get("/v1/models/reranker").json == listed["data"][1]
    # Below a model's own path there is only that one.
    alone = http.get("/models/reranker/v1/models").json
    assert alone["data"] == listed["data"][1:]
    assert http.get("/models/nothing/v1/models").status == 404


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        ({"input": []}, 400, "input", None),
        ({"input": [[]]}, 400, "input", None),
        ({"input": {"a": 1}}, 400, "input", None),
        ({"input": [[999_999]]}, 400, "input", None),
        ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format", None),
        ({"input": "https://host/cat.png", "modality": "image"}, 400, "modality", None),
        ({"input": "a", "dimensions": 0}, 400, "dimensions", None),
        ({"input": "a", "dimensions": 33}, 400, "dimensions", None),
        ({"model": "embedder"}, 400, "input", None),
        ({"input": ["a"] * 9}, 400, "input", None),
        (b"[", 400, None, None),
    ],
)
def test_errors(
    client: Callable[..., Any], body: Any, status: int, param: str | None, code: str | None
) -> None:
    answer = client("embedder", inputs=8).post("/v1/embeddings", body)
    assert answer.status == status, answer.json
    error = answer.json["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)


def test_an_unknown_model(client: Callable[..., Any]) -> None:
    answer = client("embedder").get("/v1/models/nope")
    assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
    wrong = client("embedder", api_keys=["k"]).post("/v1/embeddings", {"input": "a"})
    assert (wrong.status, wrong.json["error"]["type"]) == (401, "authentication_error")
