"""Routes of Text Embeddings Inference: shapes, errors and headers; answers are the runtime's."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

TEXTS = ["the cat sat on the mat", "who is the president?", "london"]
LONG = "the cat sat on the mat " * 30
ATOL = 1e-5


def close(got: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.array(got), np.array(expected), rtol=0, atol=ATOL)


def test_embed(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    http, rt = client("embedder"), runtime("embedder")
    answer = http.post("/embed", {"inputs": TEXTS})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    close(answer.json, rt.embed(TEXTS))
    close(http.post("/embed", {"inputs": "london"}).json, [rt.embed("london")])
    close(http.post("/models/embedder/embed", {"inputs": TEXTS}).json, rt.embed(TEXTS))
    close(http.post_gzip("/embed", {"inputs": TEXTS}).json, rt.embed(TEXTS))
    raw = http.post("/embed", {"inputs": TEXTS, "normalize": False, "dimensions": 5}).json
    close(raw, rt.embed(TEXTS, normalize=False, dimensions=5))
    unit = http.post("/embed", {"inputs": TEXTS, "dimensions": 5}).json
    close(unit, rt.embed(TEXTS, dimensions=5))
    close(http.post("/embed", {"inputs": LONG}).json, [rt.embed(LONG, truncation=True)])


def test_token_ids_are_taken_as_they_are(
    client: Callable[..., Any], runtime: Callable[[str], Any]
) -> None:
    http, rt = client("embedder"), runtime("embedder")
    ids = [rt.tokenizer.encode(text).ids for text in TEXTS]
    close(http.post("/embed", {"inputs": ids}).json, rt.embed(TEXTS))
    close(http.post("/embed", {"inputs": ids[0]}).json, [rt.embed(TEXTS[0])])
    close(http.post("/embed", {"inputs": [ids[0], TEXTS[1]]}).json, rt.embed(TEXTS[:2]))
    answer = http.post("/embed", {"inputs": [[5, 999_999]]})
    assert (answer.status, answer.json["error_type"]) == (422, "Validation")


@pytest.mark.parametrize("direction", ["Left", "left", "Right", "right", None])
def test_the_side_that_is_cut(
    client: Callable[..., Any], runtime: Callable[[str], Any], direction: str | None
) -> None:
    text, pair = f"who is {LONG}", f"london {LONG}"
    kept = {"truncation": True, "truncation_side": direction and direction.lower()}
    asked = {"truncation_direction": direction}
    http, rt = client("embedder"), runtime("embedder")
    close(http.post("/embed", {"inputs": text, **asked}).json, [rt.embed(text, **kept)])
    close(http.post("/embed_all", {"inputs": text, **asked}).json, rt(text, **kept))
    inputs = {"source_sentence": pair, "sentences": [text]}
    vectors = rt.embed([pair, text], **kept)
    got = http.post("/similarity", {"inputs": inputs, "parameters": asked}).json
    close(got, vectors[1:] @ vectors[0])
    tail = rt.embed(text, truncation=True, truncation_side="left")
    is_tail = np.abs(tail - vectors[1]).max() < ATOL
    assert is_tail == (direction in ("Left", "left"))
    [[label, *_]] = client("nli").post("/predict", {"inputs": [[text, pair]], **asked}).json
    [[expected, *_]] = runtime("nli")([(text, pair)], top_k=None, **kept)
    assert label["label"] == expected["label"]
    close(label["score"], expected["score"])
    body = {"query": text, "texts": [pair], "raw_scores": True, **asked}
    [ranked] = client("reranker").post("/rerank", body).json
    close(ranked["score"], runtime("reranker").score((text, pair), activation="identity", **kept))
    for path, wrong in (("/embed", "up"), ("/embed_all", 3)):
        answer = http.post(path, {"inputs": text, "truncation_direction": wrong})
        assert answer.json["error"] == "`truncation_direction` has to be right, Right, left, Left"


def test_embed_all(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    answers = client("embedder").post("/embed_all", {"inputs": TEXTS}).json
    for got, expected in zip(answers, runtime("embedder")(TEXTS), strict=True):
        close(got, expected[0])


def test_embed_sparse(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    http, rt = client("splade", "embedder"), runtime("splade")
    asked = {"inputs": TEXTS, "prompt_name": "query", "truncate": True}
    expected = rt.embed_sparse(TEXTS, prompt_name="query", truncation=True)
    for got, vector in zip(http.post("/embed_sparse", asked).json, expected, strict=True):
        assert [entry["index"] for entry in got] == sorted(vector.ids.tolist())
        weights = dict(zip(vector.ids.tolist(), vector.weights.tolist(), strict=True))
        close([entry["value"] for entry in got], [weights[entry["index"]] for entry in got])
    assert http.get("/models/splade/info").json["model_type"] == {
        "embedding": {"pooling": "splade"}
    }
    for path in ("/models/splade", "/models/splade/invocations"):
        assert http.post(path, asked).json == http.post("/embed_sparse", asked).json
    wrong = http.post("/embed_sparse", {"inputs": "a", "prompt_name": "x"})
    assert (wrong.status, wrong.json["error"]) == (
        422,
        'unknown `prompt_name`. Available prompts: ["query", "document"]',
    )
    for path in ("/embed_sparse", "/models/embedder/embed_sparse"):
        answer = client("embedder").post(path, {"inputs": "a"})
        assert (answer.status, answer.json["error"]) == (
            424,
            "Model is not an embedding model with SPLADE pooling",
        )


def test_embed_sparse_of_a_model_with_two_routes(
    client: Callable[..., Any], served: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompt's name chooses the route: no other field of TEI's could."""
    http, rt = client("splade"), served("splade").runtime
    # The batcher keeps options that it has parsed, also for other tests.
    monkeypatch.setattr(served("splade").batcher, "_parsed", {})
    facts = replace(rt._calls.head.sparse, query_max_length=64, default_kind="query")
    monkeypatch.setattr(rt._calls.head, "sparse", facts)
    weights = np.linspace(1, 4, facts.size, dtype=np.float32)
    monkeypatch.setattr(rt._calls.head, "query_weights", weights)
    found = {}
    for kind in ("query", "document", None):
        asked = {"inputs": "the cat", "prompt_name": kind}
        [entries] = http.post("/embed_sparse", asked).json
        expected = rt.embed_sparse("the cat", kind=kind)
        assert [entry["index"] for entry in entries] == sorted(expected.ids.tolist())
        found[kind] = len(entries)
    assert found["query"] == found[None] == 2
    assert found["document"] > 2


def test_predict(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    http, rt = client("nli", "embedder"), runtime("nli")
    pair = ["the cat sat", "a cat"]
    expected = rt([tuple(pair)], top_k=None, function_to_apply="softmax")[0]
    got = http.post("/predict", {"inputs": pair}).json
    assert [one["label"] for one in got] == [one["label"] for one in expected]
    close([one["score"] for one in got], [one["score"] for one in expected])
    assert [one["score"] for one in got] == sorted((one["score"] for one in got), reverse=True)
    batch = http.post("/predict", {"inputs": [pair, ["a cat"]]}).json[0]
    assert [one["label"] for one in batch] == [one["label"] for one in got]
    close([one["score"] for one in batch], [one["score"] for one in got])
    single = http.post("/predict", {"inputs": "a cat"}).json
    assert http.post("/predict", {"inputs": ["a cat"]}).json == single
    raw = http.post("/predict", {"inputs": "a cat", "raw_scores": True}).json
    logits = rt(["a cat"], top_k=None, function_to_apply="none")[0]
    close([one["score"] for one in raw], [one["score"] for one in logits])


def test_rerank(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    http, rt = client("reranker", "nli"), runtime("reranker")
    expected = rt.rank("who", TEXTS)
    got = http.post("/rerank", {"query": "who", "texts": TEXTS, "return_text": True}).json
    assert [one["index"] for one in got] == [one["corpus_id"] for one in expected]
    close([one["score"] for one in got], [one["score"] for one in expected])
    assert [one["text"] for one in got] == [TEXTS[one["index"]] for one in got]
    body = {"query": "who", "texts": TEXTS, "raw_scores": True}
    raw = {one["index"]: one["score"] for one in http.post("/rerank", body).json}
    pairs = [("who", text) for text in TEXTS]
    close([raw[i] for i in range(3)], rt.score(pairs, activation="identity"))
    equal = http.post("/rerank", {"query": "who", "texts": ["a", "a", "a"]}).json
    assert [one["index"] for one in equal] == [0, 1, 2]
    other = http.post("/models/nli/rerank", {"query": "who", "texts": TEXTS})
    assert (other.status, other.json["error_type"]) == (424, "Backend")
    assert other.json["error"] == "model is not a re-ranker model"


def test_similarity(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS}
    vectors = runtime("embedder").embed(TEXTS)
    for path in ("/similarity", "/", "/models/embedder"):
        got = client("embedder").post(path, {"inputs": inputs, "parameters": {}}).json
        close(got, vectors @ vectors[0])


def test_tokenize_and_decode(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    http, tokenizer = client("embedder"), runtime("embedder").tokenizer
    (tokens,) = http.post("/tokenize", {"inputs": "Café cat"}).json
    encoding = tokenizer.encode("Café cat")
    assert [token["id"] for token in tokens] == encoding.ids
    assert tokens[0] == {
        "id": encoding.ids[0],
        "text": "[CLS]",
        "special": True,
        "start": None,
        "stop": None,
    }
    plain = http.post("/tokenize", {"inputs": ["Café cat"], "add_special_tokens": False}).json[0]
    assert [token["id"] for token in plain] == encoding.ids[1:-1]
    for token in plain:
        assert "Café cat"[token["start"] : token["stop"]] == token["text"]
    # A text of any length can be counted.
    assert len(http.post("/tokenize", {"inputs": LONG}).json[0]) > 64
    ids = tokenizer.encode("the cat").ids
    assert http.post("/decode", {"ids": ids}).json == ["the cat"]
    kept = http.post("/decode", {"ids": [ids], "skip_special_tokens": False}).json
    assert kept == [tokenizer.decode(ids)]
    assert http.post("/decode", {"ids": [999_999]}).status == 422


def test_info_and_health(client: Callable[..., Any]) -> None:
    http = client("embedder", "reranker")
    info = http.get("/info").json
    assert info["served_model_name"] == "embedder"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["max_input_length"] == 64
    other = http.get("/models/reranker/info").json
    assert other["model_type"]["reranker"]["id2label"] == {"0": "LABEL_0"}
    for path in ("/health", "/", "/ping", "/readyz", "/livez"):
        answer = http.get(path)
        assert (answer.status, answer.body) == (200, b"")


def test_headers(client: Callable[..., Any]) -> None:
    http = client("embedder")
    answer = http.post("/embed", {"inputs": ["the cat", LONG]}, x_request_id="my-id.7")
    assert answer.headers["x-request-id"] == "my-id.7"
    assert answer.headers["x-compute-type"] == "cpu"
    # As they came, also those that are not read.
    assert answer.headers["x-compute-characters"] == str(len("the cat") + len(LONG))
    # [CLS] the cat [SEP], and a text that is cut.
    assert answer.headers["x-compute-tokens"] == str(4 + 64)
    assert answer.headers["x-bertrt-truncated"] == "1"
    for name in ("x-total-time", "x-compute-time", "x-queue-time", "x-inference-time"):
        assert answer.headers[name].isdigit()
    other = http.post("/embed", {"inputs": "a"}, x_request_id="not an id!").headers["x-request-id"]
    assert other.isalnum()


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "message"),
    [
        ("/embed", {"inputs": ""}, 400, "Empty", "`inputs` cannot be empty"),
        ("/embed", {"inputs": []}, 400, "Empty", "`inputs` cannot be empty"),
        ("/embed", {"inputs": ["a", ""]}, 400, "Empty", "`inputs` cannot be empty"),
        ("/rerank", {"query": "a", "texts": []}, 400, "Empty", "`texts` cannot be empty"),
        ("/embed", b"{", 400, "Empty", "the body is not JSON (at byte 1)"),
        ("/embed", {}, 422, "Validation", "`inputs` is missing"),
        ("/embed", [1], 422, "Validation", "the body is not a JSON object"),
        ("/embed", {"inputs": 3}, 422, "Validation", "`inputs` has to be a string or a list"),
        ("/embed", {"inputs": [True]}, 422, "Validation", "`inputs` has to hold strings or"),
        (
            "/embed",
            {"inputs": "a", "normalize": 1},
            422,
            "Validation",
            "`normalize` has to be",
        ),
        ("/embed", {"inputs": "a", "dimensions": 0}, 422, "Validation", "should be positive"),
        (
            "/embed",
            {"inputs": "a", "dimensions": 33},
            422,
            "Validation",
            "smaller than the max",
        ),
        (
            "/embed",
            {"inputs": "a", "prompt_name": "zz"},
            422,
            "Validation",
            'Available prompts: ["query", "document"]',
        ),
        (
            "/embed",
            {"inputs": LONG, "truncate": False},
            422,
            "Validation",
            "Input validation error: `inputs` must have less than 64 tokens. Given: 182",
        ),
        ("/embed", {"inputs": ["a"] * 9}, 422, "Validation", "batch size 9 > maximum allowed"),
        ("/nowhere", {}, 404, "Backend", "there is no such route"),
        ("/models/other/embed", {"inputs": "a"}, 404, "Backend", "no model 'other'; loaded: "),
        ("/predict", {"inputs": "a"}, 424, "Backend", "no model here can classify texts"),
    ],
)
def test_errors(
    client: Callable[..., Any], path: str, body: Any, status: int, kind: str, message: str
) -> None:
    answer = client("embedder", "reranker" if path == "/rerank" else "tagger", inputs=8).post(
        path, body
    )
    assert answer.status == status
    assert answer.json["error_type"] == kind
    assert message in answer.json["error"]


def test_nothing_of_a_text_is_in_an_error(
    client: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    secret = "hunter2"
    http = client("embedder", "nli", "reader")
    bodies: list[tuple[str, Any]] = [
        ("/embed", {"inputs": f"{secret} " * 60, "truncate": False}),
        ("/embed", {"inputs": [secret, 5]}),
        ("/embed", f'{{"inputs": "{secret}'.encode()),
        ("/models/nli/predict", {"inputs": [[secret, secret, secret]]}),
        ("/models/reader", {"inputs": secret, "parameters": {}}),
        ("/models/reader", {"inputs": {"question": secret, "context": 3}, "parameters": {}}),
        ("/models/nli", {"inputs": 3, "parameters": {"candidate_labels": [secret, 3]}}),
    ]
    for path, body in bodies:
        answer = http.post(path, body)
        assert 400 <= answer.status < 500, answer.json
        assert secret.encode() not in answer.body
    assert secret not in caplog.text


def test_methods_and_types(client: Callable[..., Any]) -> None:
    http = client("embedder", body=1000)
    wrong = http.get("/embed")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert http.post("/embed", b"inputs=a", content_type="text/plain").status == 415
    assert http.post("/embed", b"x", content_encoding="br").status == 415
    assert http.post("/embed", b"no gzip", content_encoding="gzip").status == 400
    large = http.post("/embed", {"inputs": "a" * 2000})
    assert (large.status, large.json["error"]) == (413, "the body is larger than 1000 bytes")
    # Small before decompression, and large after it.
    assert http.post_gzip("/embed", {"inputs": "a" * 50_000}).status == 413


def test_lengths_and_encodings_that_are_wrong(client: Callable[..., Any]) -> None:
    http = client("embedder")
    body = b'{"inputs": "a"}'
    for length in ("9" * 5000, "9" * 18):
        assert http.post("/embed", body, content_length=length).status == 413
    twice = gzip.compress(body) + gzip.compress(b'{"inputs": "b"}')
    answer = http.post("/embed", twice, content_encoding="gzip")
    assert (answer.status, answer.json["error"]) == (400, "the body is not valid gzip")


def test_keys(client: Callable[..., Any]) -> None:
    http = client("embedder", api_keys=["first", "second"])
    for headers in (
        {"authorization": "Bearer second"},
        {"authorization": "first"},
        {"x_api_key": "first"},
    ):
        assert http.post("/embed", {"inputs": "a"}, **headers).status == 200
    for headers in ({}, {"authorization": "Bearer third"}, {"authorization": "Bearer"}):
        answer = http.post("/embed", {"inputs": "a"}, **headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert http.get("/health").status == 200
    assert http.get("/info").status == 401
