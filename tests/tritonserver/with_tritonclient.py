"""tritonclient against tritonserver and against `bertrt serve`: the runtime's answers from both."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from compare import same

HEADS = (
    "embedder",
    "reranker",
    "sentiment",
    "nli",
    "many",
    "tagger",
    "filler",
    "reader",
    "writer",
    "chooser",
    "follower",
    "pretrained",
    "splade",
)

Ask = Callable[..., dict[str, np.ndarray]]


def asker(client: Any, module: Any) -> Ask:
    """Return a function that sends texts and returns the outputs by name."""

    def ask(model: str, texts: list[Any], pairs: list[Any] | None = None) -> dict[str, np.ndarray]:
        inputs = [tensor(module, "text", [[text] for text in texts])]
        if pairs is not None:
            rows = [pair if isinstance(pair, list) else [pair] for pair in pairs]
            inputs.append(tensor(module, "text_pair", rows))
        result = client.infer(model, inputs)
        answer = result.get_response()
        outputs = answer["outputs"] if isinstance(answer, dict) else answer.outputs
        names = [one["name"] if isinstance(one, dict) else one.name for one in outputs]
        return {name: result.as_numpy(name) for name in names}

    return ask


def tensor(module: Any, name: str, rows: list[list[Any]]) -> Any:
    values = np.array(rows, object)
    made = module.InferInput(name, list(values.shape), "BYTES")
    made.set_data_from_numpy(values)
    return made


@pytest.fixture(scope="session")
def http(triton: Any) -> Any:
    return tritonclient.http.InferenceServerClient(triton.http, concurrency=24)


@pytest.fixture(params=["triton http", "triton grpc", "bertrt http"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """One program, three servers."""
    server, protocol = request.param.split()
    name = "triton" if server == "triton" else "bertrt_server"
    address = getattr(request.getfixturevalue(name), protocol)
    module = tritonclient.grpc if protocol == "grpc" else tritonclient.http
    return asker(module.InferenceServerClient(address), module)


def read(outputs: dict[str, np.ndarray]) -> Any:
    """Return the runtime's answers from the outputs of a model."""
    if "embedding" in outputs:
        assert outputs["embedding"].dtype == np.float32
        return outputs["embedding"].tolist()
    if "score" in outputs:
        labels = np.vectorize(bytes.decode, otypes=[object])(outputs["label"])
        assert labels.shape == outputs["score"].shape
        rows = zip(labels.tolist(), outputs["score"].tolist(), strict=True)
        return [
            [{"label": label, "score": score} for label, score in zip(*row, strict=True)]
            for row in rows
        ]
    assert outputs["answer"].shape[1:] == (1,)
    return [json.loads(answer) for answer in outputs["answer"][:, 0]]


@pytest.mark.parametrize("head", HEADS)
def test_answers_of_a_head(ask: Ask, expected: Any, head: str) -> None:
    asked = expected[head]
    if head == "writer":
        # It draws at random; a text begins with its prompt.
        (written,) = read(ask(head, asked["texts"]))
        assert written[0]["generated_text"].startswith(asked["texts"][0])
        return
    answers = read(ask(head, asked["texts"], asked["pairs"]))
    same(answers, asked["answers"])
    if len(answers) > 1:
        with pytest.raises(AssertionError):
            same(answers, asked["answers"][::-1])


def test_metadata(http: Any, expected: Any) -> None:
    assert http.is_server_live()
    assert http.get_server_metadata()["version"] == "2.51.0"
    facts = http.get_model_metadata("embedder")
    assert facts["inputs"][0] == {"name": "text", "datatype": "BYTES", "shape": [-1, 1]}
    assert facts["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 96]}]
    policy = http.get_model_config("embedder")["dynamic_batching"]["default_queue_policy"]
    assert policy["max_queue_size"] == 1024
    assert policy["default_timeout_microseconds"] == 30_000_000
    assert {"vectors", "vectors_graph", "vectors_tokenizer", *HEADS} <= {
        model["name"] for model in http.get_model_repository_index()
    }


def test_an_ensemble_of_tokenizer_and_graph(http: Any, expected: Any) -> None:
    ask = asker(http, tritonclient.http)
    asked = expected["embedder"]
    same(read(ask("vectors", asked["texts"])), asked["answers"])
    for text, answer in zip(asked["texts"], asked["answers"], strict=True):
        same(read(ask("vectors", [text])), [answer])
    asked = expected["nli"]
    same(ask("logits", asked["texts"], asked["pairs"])["logits"].tolist(), asked["logits"])


def test_requests_share_a_run_and_a_wrong_one_fails_alone(http: Any, expected: Any) -> None:
    masked, answers = expected["filler"]["texts"], expected["filler"]["answers"]
    before = http.get_inference_statistics("filler")["model_stats"][0]
    asked = []
    for place in range(48):
        text = "nothing is left out here" if place % 8 == 5 else masked[place % 3]
        asked.append(http.async_infer("filler", [tensor(tritonclient.http, "text", [[text]])]))
    for place, request in enumerate(asked):
        if place % 8 == 5:
            with pytest.raises(InferenceServerException, match=r"\[MASK\]|mask") as raised:
                request.get_result()
            assert raised.value.status() == "400"
            assert "left out" not in raised.value.message()
            continue
        answer = json.loads(request.get_result().as_numpy("answer")[0, 0])
        same(answer, answers[place % 3])
    after = http.get_inference_statistics("filler")["model_stats"][0]
    runs = after["execution_count"] - before["execution_count"]
    assert 0 < runs < 48


def test_a_pair_without_its_text_fails_alone(http: Any, expected: Any) -> None:
    """Triton counts a request's inputs, and lets an optional one through in the place of text."""
    texts, pairs = expected["nli"]["texts"], expected["nli"]["pairs"]
    text = tensor(tritonclient.http, "text", [[texts[0]]])
    pair = tensor(tritonclient.http, "text_pair", [[pairs[0]]])
    asked = [http.async_infer("nli", [text, pair] if n % 4 else [pair]) for n in range(16)]
    for number, request in enumerate(asked):
        if number % 4:
            assert request.get_result().as_numpy("score").shape == (1, 3)
            continue
        with pytest.raises(InferenceServerException, match="the request has no text") as raised:
            request.get_result()
        assert raised.value.status() == "400"


@pytest.mark.parametrize(
    ("model", "texts", "pairs", "message"),
    [
        ("embedder", [b"\xff\xfe"], None, "element 0 of input text is not UTF-8"),
        ("nli", [b"good"], [b"a\xc3"], "element 0 of input text_pair is not UTF-8"),
        ("strict", ["cat sat dog " * 200], None, "the limit is 128"),
        ("embedder", ["a"] * 65, None, "batch-size must be <= 64"),
        ("reader", ["who?"], None, "expected 2 inputs but got 1 inputs for model 'reader'"),
        ("embedder", [], None, "text"),
    ],
)
def test_errors(http: Any, model: str, texts: list[Any], pairs: Any, message: str) -> None:
    values = np.array([[text] for text in texts], object).reshape(len(texts), 1)
    inputs = [tritonclient.http.InferInput("text", list(values.shape), "BYTES")]
    inputs[0].set_data_from_numpy(values)
    if pairs is not None:
        inputs.append(tensor(tritonclient.http, "text_pair", [[pair] for pair in pairs]))
    with pytest.raises(InferenceServerException) as raised:
        http.infer(model, inputs)
    assert raised.value.status() == "400"
    assert message in raised.value.message()
    assert "cat sat" not in raised.value.message()


def test_a_full_queue(http: Any, expected: Any) -> None:
    text = "cat dog sun " * 60
    asked = [
        http.async_infer("small", [tensor(tritonclient.http, "text", [[text]])]) for _ in range(24)
    ]
    errors = []
    for request in asked:
        try:
            request.get_result()
        except InferenceServerException as error:
            errors.append((error.status(), error.message()))
    assert 0 < len(errors) < 24
    for status, message in errors:
        assert status == "503"
        assert "Exceeds maximum queue size" in message
