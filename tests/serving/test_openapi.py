"""The OpenAPI document: its routes are the application's, and real answers conform to it."""

import base64
import json
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import jsonschema_rs
import pytest

from bertrt.serving.app import ROUTES, split_model

DOCUMENT = json.loads(resources.files("bertrt.serving").joinpath("openapi.json").read_bytes())
TEXTS = ["the cat sat on the mat", "london"]
QUESTION = {"question": "who lives in london", "context": "Mary lives in London."}
INFER = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["the cat"]}]}


def resolve(node: Any) -> Any:
    """Return what a reference stands for, or the node itself."""
    while "$ref" in node:
        found = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def check(schema: Any, value: Any) -> None:
    """Raise ValidationError unless a value conforms to a schema of the document."""
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema_rs.Draft202012Validator(whole).validate(value)


def operations() -> Iterator[tuple[str, str, Any]]:
    """Yield each operation's method, its path, and its description."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def key_of(method: str, path: str) -> tuple[str, str]:
    """Return an operation's key in the application's table of routes."""
    return method, split_model(path)[2]


def content_of(method: str, path: str, status: int) -> Any:
    """Return the types of content that an operation has for a status."""
    operation = DOCUMENT["paths"][path][method.lower()]
    return resolve(operation["responses"][str(status)]).get("content", {})


# What every route is asked in `test_answers`: the document's path, the path, and the body.
ASKED: list[tuple[str, str, Any]] = [
    *((path, path, None) for path in ("/livez", "/health", "/readyz", "/ping", "/", "/metrics")),
    *((path, path, None) for path in ("/openapi.json", "/api-doc/openapi.json")),
    *(
        ("/info", f"/models/{name}/info", None)
        for name in ("embedder", "nli", "reranker", "filler", "splade")
    ),
    ("/embed", "/embed", {"inputs": TEXTS, "truncation_direction": None}),
    ("/embed_all", "/embed_all", {"inputs": TEXTS}),
    ("/embed_sparse", "/embed_sparse", {"inputs": TEXTS}),
    ("/predict", "/models/nli/predict", {"inputs": TEXTS}),
    ("/predict", "/models/nli/predict", {"inputs": [TEXTS, TEXTS[:1]]}),
    ("/rerank", "/rerank", {"query": "who", "texts": TEXTS, "return_text": True}),
    ("/rerank", "/rerank", {"query": "who", "documents": TEXTS, "return_documents": True}),
    ("/similarity", "/similarity", {"inputs": {"source_sentence": "a", "sentences": TEXTS}}),
    ("/tokenize", "/models/nli/tokenize", {"inputs": TEXTS}),
    ("/decode", "/models/nli/decode", {"ids": [5, 6]}),
    ("/", "/models/embedder", {"inputs": TEXTS}),
    ("/", "/models/nli", {"inputs": "a", "parameters": {}}),
    ("/", "/models/nli", {"inputs": "a", "parameters": {"candidate_labels": "x,y"}}),
    ("/", "/models/tagger", {"inputs": TEXTS, "parameters": {}}),
    ("/", "/models/tagger", {"inputs": "a", "parameters": {"aggregation_strategy": "none"}}),
    ("/", "/models/filler", {"inputs": "the [MASK] sat [MASK]", "parameters": {}}),
    ("/", "/models/filler", {"inputs": ["the [MASK]"], "parameters": {}}),
    ("/", "/models/reader", {"inputs": QUESTION, "parameters": {}}),
    ("/", "/models/reader", {"inputs": [QUESTION], "parameters": {"top_k": 2}}),
    ("/invocations", "/models/reranker/invocations", {"query": "who", "texts": TEXTS}),
    ("/vertex", "/models/nli/vertex", {"instances": [{"inputs": "a"}, {"inputs": TEXTS}]}),
    ("/v1/embeddings", "/v1/embeddings", {"input": TEXTS, "encoding_format": "base64"}),
    ("/embeddings", "/embeddings", {"input": "a"}),
    ("/openai/v1/embeddings", "/openai/v1/embeddings", {"input": [5, 6]}),
    ("/v1/models", "/v1/models", None),
    ("/models", "/models", None),
    ("/v1/models/{model}", "/v1/models/nli", None),
    ("/v1/predict", "/v1/predict", {"model": "reader", "inputs": QUESTION}),
    *(
        (path, path, {"query": "who", "documents": [{"text": "a"}], "return_documents": True})
        for path in ("/v1/rerank", "/v2/rerank")
    ),
    ("/classify", "/classify", {"input": TEXTS, "model": "nli"}),
    ("/v2", "/v2", None),
    *((path, path, None) for path in ("/v2/health/live", "/v2/health/ready")),
    *(
        (f"/v2/models/{{model}}{shown}{rest}", f"/v2/models/embedder{asked}{rest}", body)
        for shown, asked in (("", ""), ("/versions/{version}", "/versions/1"))
        for rest, body in (("", None), ("/ready", None), ("/infer", INFER))
    ),
]


@pytest.fixture(scope="module")
def http(client: Callable[..., Any]) -> Any:
    return client("embedder", "reranker", "nli", "tagger", "reader", "filler", "splade")


def test_the_document_has_every_route_and_no_other() -> None:
    described = {key_of(method, path) for method, path, _ in operations()}
    assert described == set(ROUTES)
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))


def test_security_and_families_are_the_table_s() -> None:
    errors = {
        "tei": "TeiError",
        "openai": "OpenAIError",
        "cohere": "CohereError",
        "oip": "OpenInferenceError",
    }
    for method, path, operation in operations():
        route = ROUTES[key_of(method, path)]
        assert (operation.get("security") == [{}]) == route.is_open, path
        for status, response in operation["responses"].items():
            if status >= "400" and not route.is_open:
                schema = resolve(response)["content"]["application/json"]["schema"]
                assert schema["$ref"].endswith(f"/{errors[route.family]}"), (path, status)


def test_examples() -> None:
    """Each example of the document conforms to its own schema."""
    count = 0
    for _, _, operation in operations():
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for body in [*bodies, *map(resolve, operation["responses"].values())]:
            for media in body.get("content", {}).values():
                if "example" in media:
                    check(media["schema"], media["example"])
                    count += 1
    assert count > 40


def test_every_route_is_asked() -> None:
    asked = {("GET" if body is None else "POST", path) for path, _, body in ASKED}
    assert asked == {(method, path) for method, path, _ in operations()}


@pytest.mark.parametrize(("path", "asked", "body"), ASKED)
def test_answers(http: Any, path: str, asked: str, body: Any) -> None:
    method = "GET" if body is None else "POST"
    if body is not None:
        request = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        check(request["schema"], body)
    answer = http.get(asked) if body is None else http.post(asked, body)
    assert answer.status == 200, answer.body
    content = content_of(method, path, 200)
    if not answer.body:
        assert not content
    elif answer.headers["content-type"] == "application/json":
        check(content["application/json"]["schema"], answer.json)
    else:
        assert answer.headers["content-type"] in content


def test_answers_that_are_not_json(http: Any) -> None:
    body = {**INFER, "parameters": {"binary_data_output": True}}
    answer = http.post("/v2/models/embedder/infer", body)
    path = "/v2/models/{model}/infer"
    assert answer.headers["content-type"] in content_of("POST", path, 200)
    packed = http.post("/v1/embeddings", {"input": "a", "encoding_format": "base64"}).json
    assert len(base64.b64decode(packed["data"][0]["embedding"])) == 4 * 32


@pytest.mark.parametrize(("path", "asked", "body"), ASKED)
def test_errors(client: Callable[..., Any], path: str, asked: str, body: Any) -> None:
    """A wrong key, no JSON, no object, an unknown model, and a body that is too large."""
    method = "GET" if body is None else "POST"
    locked = client("embedder", api_keys=["key"], body=1000)
    answers = [locked.request(method, asked, b"", {})]
    if body is not None:
        headers = {"authorization": "key"}
        for sent in (b"{", b"[1]", b"3", b"{}", b'"' * 2000, b'{"model":"none"}'):
            answers.append(locked.request(method, asked, sent, headers))
    for answer in answers:
        if answer.status == 200:
            assert ROUTES[key_of(method, path)].is_open
            continue
        check(content_of(method, path, answer.status)["application/json"]["schema"], answer.json)
