"""bertrt's own route, whose answers are the runtime's for any head."""

from collections.abc import Callable
from typing import Any

import pytest


def test_every_head(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    http = client("nli", "tagger", "reader", "filler")
    question = {"question": "who lives in london", "context": "Mary lives in London."}
    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("nli", {"text": "a cat", "text_pair": "the cat"}, {"top_k": 1}),
        ("nli", "a cat", {"candidate_labels": ["cat", "london"]}),
        ("tagger", "Mary lives in London", {"aggregation_strategy": "simple"}),
        ("reader", question, {}),
        ("filler", "the [MASK] sat", {"top_k": 2}),
    ]
    for name, value, parameters in cases:
        body = {"model": name, "inputs": [value], "parameters": parameters}
        got = http.post("/v1/predict", body).json
        same(got, runtime(name)([value], **parameters))
        same(http.post("/v1/predict", {**body, "inputs": value}).json, got[0])


def same(got: Any, expected: Any) -> None:
    """Compare answers; scores of a text alone and in a batch differ by rounding."""
    assert type(got) is type(expected)
    if isinstance(got, dict):
        assert got.keys() == expected.keys()
        for name in got:
            same(got[name], expected[name])
    elif isinstance(got, list):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            same(one, other)
    elif isinstance(got, float):
        assert abs(got - expected) < 1e-5
    else:
        assert got == expected


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": []},
        {"inputs": "a", "model": "none"},
        {"inputs": "a", "parameters": {"top": 3}},
        {"inputs": "a", "parameters": [1]},
        *(
            {"inputs": "a", "parameters": {name: 3}}
            for name in ("progress", "deadline", "inputs", "method", "self", "request", "model")
        ),
        {"inputs": 3},
    ],
)
def test_errors(client: Callable[..., Any], body: Any) -> None:
    answer = client("nli").post("/v1/predict", body)
    assert answer.status in (400, 404)
    assert answer.json["error"]["type"] == "invalid_request_error"
