"""tritonclient over HTTP: texts and token ids, as JSON and as bytes, and what is refused."""

import json
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from compare import same
from inputs import DOCUMENTS, PAIR, QUERY, QUESTION, TEXTS


@pytest.fixture
def client(url: str) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(url.removeprefix("http://"), concurrency=4)


@pytest.fixture
def headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def text_input(texts: list[str], name: str = "text", *, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput(name, [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array(texts, object), binary_data=binary)
    return tensor


def texts_of(result: triton.InferResult, name: str) -> Any:
    return np.vectorize(bytes.decode, otypes=[object])(result.as_numpy(name)).tolist()


def test_health_and_metadata(client: Any, headers: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("embedder", headers=headers)
    assert not client.is_model_ready("nothing", headers=headers)
    assert client.get_server_metadata(headers=headers)["name"] == "bertrt"
    facts = client.get_model_metadata("embedder", headers=headers)
    assert facts["outputs"][0] == {"name": "embedding", "datatype": "FP32", "shape": [-1, 96]}


@pytest.mark.parametrize("binary", [True, False])
def test_vectors(client: Any, headers: Any, binary: bool, expected: Any) -> None:
    result = client.infer(
        "embedder",
        [text_input(TEXTS, binary=binary)],
        outputs=[triton.InferRequestedOutput("embedding", binary_data=binary)],
        request_id="7",
        headers=headers,
    )
    same(result.as_numpy("embedding").tolist(), expected["embed_raw"])
    answer = result.get_response()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", "embedder", "1")
    assert ("data" in answer["outputs"][0]) is not binary


@pytest.mark.parametrize("sent", ["gzip", "deflate", None])
@pytest.mark.parametrize("asked", ["gzip", "deflate", None])
def test_compression(
    client: Any, headers: Any, sent: str | None, asked: str | None, expected: Any
) -> None:
    result = client.infer(
        "embedder",
        [text_input(TEXTS)],
        headers=headers,
        request_compression_algorithm=sent,
        response_compression_algorithm=asked,
    )
    same(result.as_numpy("embedding").tolist(), expected["embed_raw"])


def test_token_ids(client: Any, headers: Any, expected: Any) -> None:
    tensors = []
    for name, values in expected["arrays"].items():
        array = np.array(values, np.int64)
        tensors.append(triton.InferInput(name, list(array.shape), "INT64"))
        tensors[-1].set_data_from_numpy(array)
    wanted = [triton.InferRequestedOutput("pooler_output")]
    result = client.infer("embedder", tensors, outputs=wanted, headers=headers)
    same(result.as_numpy("pooler_output").tolist(), expected["pooler"])


def test_labels_and_answers(client: Any, headers: Any, expected: Any) -> None:
    result = client.infer("sentiment", [text_input(TEXTS)], headers=headers)
    labels = [[one["label"] for one in answer] for answer in expected["sentiment"]]
    assert texts_of(result, "label") == labels
    scores = [[one["score"] for one in answer] for answer in expected["sentiment"]]
    same(result.as_numpy("score").tolist(), scores)
    pair = [text_input([PAIR[0]]), text_input([PAIR[1]], "text_pair")]
    result = client.infer("nli", pair, headers=headers)
    assert texts_of(result, "label") == [[one["label"] for one in expected["nli"]]]
    pairs = [text_input([QUERY] * len(DOCUMENTS)), text_input(DOCUMENTS, "text_pair")]
    result = client.infer("reranker", pairs, headers=headers)
    same(result.as_numpy("score")[:, 0].tolist(), expected["scores"])
    asked = [
        text_input([QUESTION["question"]]),
        text_input([QUESTION["context"]], "text_pair"),
    ]
    result = client.infer("reader", asked, headers=headers)
    same(json.loads(texts_of(result, "answer")[0]), expected["answer"])


def test_several_at_once(client: Any, headers: Any, expected: Any) -> None:
    places = [place % len(TEXTS) for place in range(16)]
    asked = [
        client.async_infer("embedder", [text_input([TEXTS[place]])], headers=headers)
        for place in places
    ]
    for place, request in zip(places, asked, strict=True):
        found = request.get_result().as_numpy("embedding").tolist()
        same(found, [expected["embed_raw"][place]])


def test_a_deadline(client: Any, headers: Any, expected: Any) -> None:
    # In microseconds: one that cannot be kept, and one that can.
    with pytest.raises(InferenceServerException, match="deadline") as raised:
        client.infer("embedder", [text_input(TEXTS * 200)], timeout=1, headers=headers)
    assert raised.value.status() == "504"
    result = client.infer("embedder", [text_input(TEXTS)], timeout=20_000_000, headers=headers)
    same(result.as_numpy("embedding").tolist(), expected["embed_raw"])


def test_a_client_that_stops_waiting(url: str, client: Any, headers: Any, expected: Any) -> None:
    hasty = triton.InferenceServerClient(url.removeprefix("http://"), network_timeout=0.01)
    with pytest.raises(Exception, match="timed out"):
        hasty.infer("embedder", [text_input(TEXTS * 400)], headers=headers)
    result = client.infer("embedder", [text_input(TEXTS)], headers=headers)
    same(result.as_numpy("embedding").tolist(), expected["embed_raw"])


@pytest.mark.parametrize(
    ("model", "make", "status", "message"),
    [
        ("nothing", lambda: [text_input(TEXTS)], "404", "unknown model: 'nothing' is not found"),
        ("embedder", lambda: [text_input(TEXTS, "nope")], "400", "unexpected inference input"),
        ("embedder", lambda: [], "400", "expected 1 inputs but got 0 inputs"),
        ("embedder", lambda: [numbers_as_text()], "400", "'text' data-type is 'FP32'"),
        ("embedder", lambda: [text_input(["a"] * 2049)], "400", "batch-size must be <= 2048"),
        ("reader", lambda: [text_input(TEXTS)], "400", "'text_pair' is missing"),
    ],
)
def test_errors(
    client: Any,
    headers: Any,
    model: str,
    make: Callable[[], list[triton.InferInput]],
    status: str,
    message: str,
) -> None:
    with pytest.raises(InferenceServerException) as raised:
        client.infer(model, make(), headers=headers)
    assert raised.value.status() == status
    assert message in raised.value.message()


def numbers_as_text() -> triton.InferInput:
    tensor = triton.InferInput("text", [1], "FP32")
    tensor.set_data_from_numpy(np.zeros(1, np.float32))
    return tensor


def test_a_wrong_key_and_an_unknown_output(client: Any, headers: Any) -> None:
    with pytest.raises(InferenceServerException, match="API key") as raised:
        client.infer("embedder", [text_input(TEXTS)], headers={"authorization": "Bearer wrong"})
    assert raised.value.status() == "401"
    with pytest.raises(InferenceServerException, match="unexpected inference output 'nope'"):
        client.infer(
            "embedder",
            [text_input(TEXTS)],
            outputs=[triton.InferRequestedOutput("nope")],
            headers=headers,
        )


def test_a_full_queue(busy: str, headers: Any) -> None:
    client = triton.InferenceServerClient(busy.removeprefix("http://"))
    with pytest.raises(InferenceServerException, match="overloaded") as raised:
        client.infer("embedder", [text_input(["a"] * 1500)], headers=headers)
    assert raised.value.status() == "503"


def test_live_and_ready_while_it_drains(
    serve: Callable[..., Any], headers: Any, expected: Any
) -> None:
    server = serve("embedder", options=("--drain-delay", "30"))
    client = triton.InferenceServerClient(server.url.removeprefix("http://"))
    assert client.is_server_ready()
    server.process.send_signal(signal.SIGTERM)
    while client.is_server_ready():
        pass
    assert client.is_server_live()
    result = client.infer("embedder", [text_input(TEXTS)], headers=headers)
    same(result.as_numpy("embedding").tolist(), expected["embed_raw"])
    server.process.kill()
