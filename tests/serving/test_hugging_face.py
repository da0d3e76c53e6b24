"""The hub's task shape, as `InferenceClient` posts it; its own client reads the answers."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def inference(client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A factory: a model's name to an InferenceClient, whose requests reach the application."""

    def make(name: str) -> Any:
        http = client("embedder", "reranker", "nli", "tagger", "reader", "filler")
        made = hub.InferenceClient(model=f"http://test/models/{name}")

        def post(request: Any, stream: bool = False) -> bytes:
            body = request.data if request.data is not None else json.dumps(request.json).encode()
            answer = http.post(request.url.removeprefix("http://test"), body)
            assert answer.status == 200, answer.body
            return answer.body

        monkeypatch.setattr(made, "_inner_post", post)
        return made

    return make


def test_feature_extraction(inference: Callable[[str], Any], runtime: Any) -> None:
    got = inference("embedder").feature_extraction("the cat")
    np.testing.assert_allclose(got, [runtime("embedder").embed("the cat")], atol=1e-5)
    similarity = inference("embedder").sentence_similarity("the cat", ["a cat", "london"])
    vectors = runtime("embedder").embed(["the cat", "a cat", "london"])
    np.testing.assert_allclose(similarity, vectors[1:] @ vectors[0], atol=1e-5)


def test_text_classification(inference: Callable[[str], Any], runtime: Any) -> None:
    expected = runtime("nli")(["the cat"], top_k=None)[0]
    got = inference("nli").text_classification("the cat")
    assert [one.label for one in got] == [one["label"] for one in expected]
    assert len(inference("nli").text_classification("the cat", top_k=2)) == 2


@pytest.mark.parametrize("model", ["nli", "tagger", "filler"])
def test_clients_say_how_a_text_is_cut(
    client: Callable[..., Any], runtime: Callable[[str], Any], model: str
) -> None:
    """Many send the options of transformers' pipelines."""
    text, http = "the [MASK] sat " + "and the cat sat " * 100, client(model)
    cut = {"truncation": True, "max_length": 6}
    own = {"nli": {"top_k": None}, "tagger": {"aggregation_strategy": "simple"}, "filler": {}}
    expected = runtime(model)([text], **own[model], **cut)
    found = http.post("/", {"inputs": [text], "parameters": cut}).json
    whole = http.post("/", {"inputs": [text], "parameters": {}}).json
    scores = [[one["score"] for one in answer[0]] for answer in (expected, found, whole)]
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-5)
    assert scores[2] != scores[1]
    refused = http.post("/", {"inputs": text, "parameters": {"truncation": False}})
    assert refused.status == 422


@pytest.mark.parametrize("multi_label", [False, True])
def test_zero_shot_classification(
    inference: Callable[[str], Any], runtime: Any, multi_label: bool
) -> None:
    labels = ["cat", "president"]
    expected = runtime("nli")("the cat", candidate_labels=labels, multi_label=multi_label)
    got = inference("nli").zero_shot_classification("the cat", labels, multi_label=multi_label)
    assert [one.label for one in got] == expected["labels"]
    np.testing.assert_allclose([one.score for one in got], expected["scores"], atol=1e-5)


def test_token_classification(inference: Callable[[str], Any], runtime: Any) -> None:
    text = "Mary lives in London"
    for strategy in (None, "none", "simple"):
        options = {} if strategy is None else {"aggregation_strategy": strategy}
        expected = runtime("tagger")(text, aggregation_strategy=strategy or "simple")
        got = inference("tagger").token_classification(text, **options)
        assert [(one.start, one.end, one.word) for one in got] == [
            (one["start"], one["end"], one["word"]) for one in expected
        ]


def test_fill_mask(inference: Callable[[str], Any], runtime: Any) -> None:
    expected = runtime("filler")("the [MASK] sat", top_k=3)
    got = inference("filler").fill_mask("the [MASK] sat", top_k=3)
    assert [one.token_str for one in got] == [one["token_str"] for one in expected]


def test_question_answering(inference: Callable[[str], Any], runtime: Any) -> None:
    question, context = "who lives in london", "Mary lives in London."
    expected = runtime("reader")(question=question, context=context)
    got = inference("reader").question_answering(question=question, context=context)
    assert (got.answer, got.start, got.end) == tuple(
        expected[name] for name in ("answer", "start", "end")
    )
    several = inference("reader").question_answering(question=question, context=context, top_k=3)
    assert len(several) == 3


@pytest.mark.parametrize(
    ("model", "parameters", "message"),
    [
        (
            "filler",
            {"top_p": 1},
            "`top_p` is no parameter of fill-mask, which takes targets, top_k",
        ),
        ("nli", {"candidate_labels": ["a"], "top_k": 1}, "`top_k` is no parameter of zero-shot"),
        ("nli", {"top_k": 1, "stride": 3}, "`stride` is no parameter of text-classification"),
    ],
)
def test_parameters_that_have_no_effect_are_refused(
    client: Callable[..., Any], model: str, parameters: Any, message: str
) -> None:
    body = {"inputs": "the [MASK]", "parameters": parameters}
    answer = client(model).post(f"/models/{model}", body)
    assert answer.status == 422
    assert message in answer.json["error"]


def test_text_generation(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    http, options = client("writer"), {"max_new_tokens": 5, "do_sample": False}
    body = {"inputs": "the cat", "parameters": options, "stream": False}
    assert http.post("/", body).json == runtime("writer")("the cat", **options)
    sampled = {"max_new_tokens": 5, "temperature": 0.9, "top_k": 9, "top_p": 0.9, "seed": 3}
    body = {"inputs": "the cat", "parameters": sampled}
    assert http.post("/models/writer", body).json == runtime("writer")("the cat", **sampled)
    for path in ("/", "/v1/predict"):
        answer = http.post(path, {**body, "stream": True})
        assert answer.status == 400
        assert b"`stream` has to be false: a text comes whole" in answer.body


def test_vertex(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    """Each prediction is what POST / answers to the instance."""
    http = client("embedder")
    similar = {"inputs": {"source_sentence": "the cat", "sentences": ["a cat", "london"]}}
    instances = [{"inputs": "the cat"}, {"inputs": ["a", "b"], "dimensions": 5}, similar]
    found = http.post("/vertex", {"instances": instances}).json["predictions"]
    for got, instance in zip(found, instances, strict=True):
        for one, other in zip(got, http.post("/", instance).json, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    for wrong, status in (
        ([], 400),
        ("a", 422),
        ([{"inputs": "a"}, {"inputs": 3}], 422),
        ([{"inputs": "a"}, []], 422),
        ([{"inputs": "a"}] * 9, 422),
    ):
        answer = client("embedder", inputs=8).post("/vertex", {"instances": wrong})
        assert answer.status == status, wrong
        assert set(answer.json) == {"error", "error_type"}
