"""What a request costs is estimated before it runs, and bounded."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from bertrt.heads.calls import BoundCall
from bertrt.serving.cost import estimate

QUESTION = {"question": "who lives in london", "context": "Mary lives in London. " * 40}
LONG = "the cat sat on the mat " * 30


def real_sequences(rt: Any, inputs: list[Any], options: dict[str, Any]) -> int:
    """Return how many encodings the batcher runs for inputs."""
    bound = BoundCall.read(rt._calls.parse(options), inputs)
    return sum(len(request.encodings) for request in bound.requests(rt._runner))


@pytest.mark.parametrize(
    ("name", "inputs", "options"),
    [
        ("nli", ["a cat", "the cat"], {}),
        ("nli", ["a cat", "the cat"], {"candidate_labels": ["a", "b", "c"]}),
        ("nli", ["a cat"], {"candidate_labels": "a,b"}),
        ("reader", [QUESTION, {**QUESTION, "context": "London"}], {}),
        ("reader", [QUESTION], {"max_seq_len": 20, "doc_stride": 5}),
        ("reader", [QUESTION], {"max_seq_len": 30, "doc_stride": 0}),
        ("tagger", [LONG, "London"], {}),
        ("tagger", [LONG, "London"], {"stride": 7, "aggregation_strategy": "simple"}),
        ("tagger", [LONG], {"stride": 3, "max_length": 9, "aggregation_strategy": "simple"}),
        ("chooser", [{"prompt": "the cat", "choices": ["a", "b", "c"]}], {}),
        ("chooser", ["the cat", "a cat"], {"choices": ["a", "b"]}),
    ],
)
def test_sequences(
    served: Callable[[str], Any], name: str, inputs: list[Any], options: dict[str, Any]
) -> None:
    """They are those that run; with characters in place of tokens at least as many."""
    model = served(name)
    if options.get("truncation") is None and name == "tagger" and "stride" not in options:
        options = {**options, "truncation": True}
    encode = model.runtime.tokenizer.encode_whole
    exact = estimate(
        model, "call", inputs, options, lambda text: len(encode(text, special_tokens=False))
    )
    assert exact.sequences == real_sequences(model.runtime, inputs, options)
    assert estimate(model, "call", inputs, options).sequences >= exact.sequences


def test_sequences_of_generation(served: Callable[[str], Any]) -> None:
    cost = estimate(served("writer"), "call", ["a", "b"], {"num_return_sequences": 9})
    assert cost.sequences == 18


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("embedder", "/embed", {"inputs": [LONG, "cat"]}),
        ("embedder", "/embed_all", {"inputs": [LONG, "cat"]}),
        ("nli", "/predict", {"inputs": [["a"], ["b", "c"]]}),
        ("nli", "/", {"inputs": ["a"], "parameters": {"candidate_labels": ["x", "y", "z"]}}),
        ("tagger", "/", {"inputs": [LONG], "parameters": {"aggregation_strategy": "none"}}),
        ("filler", "/", {"inputs": ["the [MASK] sat " * 9], "parameters": {"top_k": 10_000}}),
        ("reader", "/", {"inputs": [QUESTION], "parameters": {"top_k": 30}}),
        ("writer", "/v1/predict", {"inputs": ["the cat"], "parameters": {"next_tokens": 50}}),
        ("writer", "/", {"inputs": ["the cat"], "parameters": {"max_new_tokens": 20}}),
    ],
)
def test_an_answer_is_about_as_large_as_estimated(
    client: Callable[..., Any], name: str, path: str, body: Any
) -> None:
    """An answer is refused by its estimate, which is not below it and not far above."""
    answer = client(name).post(path, body)
    assert answer.status == 200, answer.body
    size = len(answer.body)
    refused = client(name, response=size - 1).post(path, body)
    assert refused.status == 413, "the estimate is too low"
    assert "bytes of answer, and at most" in json.dumps(refused.json)
    assert client(name, response=6 * size + 400).post(path, body).status == 200, "far too high"


@pytest.mark.parametrize(
    ("name", "body", "many"),
    [
        ("nli", {"inputs": ["a", "b"], "parameters": {"candidate_labels": ["x", "y"]}}, 4),
        ("nli", {"inputs": ["a", "b"], "parameters": {"candidate_labels": "x,y"}}, 4),
        ("reader", {"inputs": QUESTION, "parameters": {"max_seq_len": 20}}, 64),
        ("tagger", {"inputs": LONG, "parameters": {"stride": 2, "max_length": 9}}, 36),
        ("writer", {"inputs": "a", "parameters": {"num_return_sequences": 5}}, 5),
        ("chooser", {"inputs": [{"prompt": "a", "choices": ["a", "b", "c"]}]}, 3),
    ],
)
def test_sequences_are_bounded(client: Callable[..., Any], name: str, body: Any, many: int) -> None:
    path = "/v1/predict"
    if name == "tagger":
        body["parameters"]["aggregation_strategy"] = "simple"
    refused = client(name, sequences=many - 1).post(path, body)
    assert refused.status == 413
    error = refused.json["error"]["message"]
    assert error.startswith(f"the request has about {many} sequences, and at most {many - 1} are")
    assert client(name, sequences=many).post(path, body).status == 200


def test_all_instances_count_together(client: Callable[..., Any]) -> None:
    one = {"inputs": "a", "parameters": {"candidate_labels": ["x", "y"]}}
    assert client("nli", sequences=4).post("/vertex", {"instances": [one] * 2}).status == 200
    assert client("nli", sequences=4).post("/vertex", {"instances": [one] * 3}).status == 413


def test_tokens_are_an_answer(client: Callable[..., Any]) -> None:
    body = {"inputs": ["the cat sat on the mat"] * 8}
    assert client("embedder", response=1000).post("/tokenize", body).status == 413
    assert client("embedder", inputs=7).post("/tokenize", body).status == 422
    assert client("embedder", inputs=7).post("/decode", {"ids": [[5]] * 8}).status == 422
    long = client("embedder").post("/decode", {"ids": [5] * 16_001})
    assert long.json["error"] == "`ids` has 16001 token ids and the limit is 16000: give fewer"


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("nli", {"inputs": [1], "parameters": {"candidate_labels": {"a": 1}}}),
        ("nli", {"inputs": [[[1]]], "parameters": {"top_k": "x"}}),
        ("reader", {"inputs": [{"question": 1, "context": 2}], "parameters": {"top_k": -1}}),
        ("reader", {"inputs": [QUESTION], "parameters": {"max_seq_len": 0, "doc_stride": -3}}),
        ("reader", {"inputs": [QUESTION], "parameters": {"top_k": 10**9}}),
        ("tagger", {"inputs": [{"a": {}}], "parameters": {"stride": "x"}}),
        ("filler", {"inputs": [None, {}], "parameters": {"top_k": []}}),
        ("writer", {"inputs": [3], "parameters": {"num_return_sequences": None}}),
        ("chooser", {"inputs": [{"prompt": 1, "choices": 7}], "parameters": {"choices": 3}}),
    ],
)
def test_wrong_fields_stay_the_client_s_error(
    client: Callable[..., Any], name: str, body: Any
) -> None:
    assert client(name).post("/v1/predict", body).status in (400, 413)
