"""The Open Inference Protocol: tensors written by hand here, and the runtime's answers."""

import gzip
import json
import random
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertrt.artifact.directory import Artifact
from bertrt.errors import BusyError
from bertrt.runtime import Runtime
from bertrt.serving.app import App
from bertrt.serving.context import Context, Limits
from bertrt.serving.models import Model, Models

TEXTS = ["the cat sat on the mat", "who is the président 🙂?", "london"]
LENGTH = "inference-header-content-length"


def packed(texts: list[str]) -> bytes:
    """Write texts as binary BYTES."""
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def text_input(texts: list[str], shape: list[int] | None = None, name: str = "text") -> Any:
    return {"name": name, "datatype": "BYTES", "shape": shape or [len(texts)], "data": texts}


def ids_input(name: str, array: np.ndarray) -> Any:
    return {
        "name": name,
        "datatype": "INT64",
        "shape": list(array.shape),
        "data": array.tolist(),
    }


def with_binary(document: Any, *parts: bytes) -> tuple[bytes, dict[str, str]]:
    """Write a request whose inputs get these parts, in order; return its body and header."""
    for entry, part in zip(document["inputs"], parts, strict=True):
        entry.pop("data", None)
        entry["parameters"] = {"binary_data_size": len(part)}
    head = json.dumps(document).encode()
    return head + b"".join(parts), {LENGTH: str(len(head))}


def outputs_of(answer: Any) -> dict[str, Any]:
    """Read the outputs of an answer, JSON or binary, as arrays and lists of texts."""
    assert answer.status == 200, answer.body
    length = answer.headers.get(LENGTH)
    head = answer.body if length is None else answer.body[: int(length)]
    kind = "application/json" if length is None else "application/octet-stream"
    assert answer.headers["content-type"] == kind
    offset, found = len(head), {}
    for entry in json.loads(head)["outputs"]:
        if "data" in entry:
            values = entry["data"]
        else:
            size = entry["parameters"]["binary_data_size"]
            part, offset = answer.body[offset : offset + size], offset + size
            values = unpacked(part) if entry["datatype"] == "BYTES" else np.frombuffer(part, "<f4")
        dtype = {"BYTES": object, "FP32": np.float32}[entry["datatype"]]
        found[entry["name"]] = np.array(values, dtype).reshape(entry["shape"])
    assert offset == len(answer.body)
    return found


def unpacked(data: bytes) -> list[str]:
    """Read binary BYTES."""
    texts = []
    while data:
        (size,) = struct.unpack_from("<I", data)
        texts.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    return texts


def close(got: Any, expected: Any) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_health_and_metadata(client: Callable[..., Any]) -> None:
    http = client("embedder", "nli", api_keys=["key"])
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert (http.get(path).status, http.get(path).body) == (200, b"")
    assert http.get("/v2").status == 401
    assert set(http.get("/v2").json) == {"error"}
    http = client("embedder", "nli")
    server = http.get("/v2").json
    assert (server["name"], server["extensions"]) == ("bertrt", ["binary_tensor_data"])
    facts = http.get("/v2/models/embedder").json
    assert facts == http.get("/v2/models/embedder/versions/1").json
    assert (facts["name"], facts["versions"]) == ("embedder", ["1"])
    assert facts["platform"] == "bertrt"
    assert facts["inputs"] == [
        {"name": "text", "datatype": "BYTES", "shape": [-1]},
        {"name": "text_pair", "datatype": "BYTES", "shape": [-1]},
        {"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]},
        {"name": "attention_mask", "datatype": "INT64", "shape": [-1, -1]},
        {"name": "token_type_ids", "datatype": "INT64", "shape": [-1, -1]},
    ]
    assert facts["outputs"] == [
        {"name": "embedding", "datatype": "FP32", "shape": [-1, 32]},
        {"name": "last_hidden_state", "datatype": "FP32", "shape": [-1, -1, 32]},
        {"name": "pooler_output", "datatype": "FP32", "shape": [-1, 32]},
        {"name": "sentence_embedding", "datatype": "FP32", "shape": [-1, 32]},
    ]
    assert http.get("/v2/models/nli").json["outputs"][:2] == [
        {"name": "label", "datatype": "BYTES", "shape": [-1, 3]},
        {"name": "score", "datatype": "FP32", "shape": [-1, 3]},
    ]
    for path in ("/v2/models/embedder/ready", "/v2/models/embedder/versions/1/ready"):
        assert (http.get(path).status, http.get(path).body) == (200, b"")


def test_unknown_models_and_routes(client: Callable[..., Any]) -> None:
    http = client("embedder")
    unknown = {"error": "Request for unknown model: 'nope' is not found"}
    for answer in (http.get("/v2/models/nope"), http.post("/v2/models/nope/infer", {})):
        assert (answer.status, answer.json) == (404, unknown)
    answer = http.get("/v2/models/embedder/versions/2")
    assert answer.status == 404
    assert answer.json["error"].endswith("'embedder' version 2 is not found")
    for path in ("nope/ready", "embedder/versions/2/ready"):
        answer = http.get(f"/v2/models/{path}")
        assert (answer.status, answer.json) == (400, {"error": "Model version not ready"})
    answer = http.get("/v2/models/embedder/infer")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert set(answer.json) == {"error"}
    for path in ("/v2/models", "/v2/models/", "/v2/models/../../etc", "/v2/models/embedder/stats"):
        answer = http.get(path)
        assert (answer.status, set(answer.json)) == (404, {"error"})


@pytest.mark.parametrize("shape", [[3], [3, 1]])
@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
def test_embeddings(
    client: Callable[..., Any],
    runtime: Callable[[str], Any],
    shape: list[int],
    binary_in: bool,
    binary_out: bool,
) -> None:
    http, rt = client("embedder"), runtime("embedder")
    document: dict[str, Any] = {
        "id": "é-7",
        "inputs": [text_input(TEXTS, shape)],
        "parameters": {"binary_data_output": binary_out},
    }
    body, headers = json.dumps(document).encode(), {}
    if binary_in:
        body, headers = with_binary(document, packed(TEXTS))
    for path in ("/v2/models/embedder/infer", "/v2/models/embedder/versions/1/infer"):
        answer = http.post(path, body, **headers)
        found = outputs_of(answer)
        assert list(found) == ["embedding"]
        close(found["embedding"], rt.embed(TEXTS))
        length = int(answer.headers.get(LENGTH, len(answer.body)))
        head = json.loads(answer.body[:length])
        assert (head["id"], head["model_name"], head["model_version"]) == ("é-7", "embedder", "1")
    assert (LENGTH in answer.headers) is binary_out


def test_an_answer_has_an_id_only_if_the_request_has(client: Callable[..., Any]) -> None:
    answer = client("embedder").post("/v2/models/embedder/infer", {"inputs": [text_input(TEXTS)]})
    assert "id" not in answer.json


def test_json_and_binary_give_the_same_numbers(client: Callable[..., Any]) -> None:
    http = client("embedder")
    found = []
    for flag in (False, True):
        outputs = [{"name": "embedding", "parameters": {"binary_data": flag}}]
        body = {"inputs": [text_input(TEXTS[:1])], "outputs": outputs}
        found.append(outputs_of(http.post("/v2/models/embedder/infer", body))["embedding"])
    np.testing.assert_array_equal(*found)


def test_labels_and_scores(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    http, rt = client("nli", "reranker"), runtime("nli")
    pairs = ["a cat", "the president", "paris"]
    body = {"inputs": [text_input(TEXTS), text_input(pairs, [3, 1], "text_pair")]}
    expected = rt(list(zip(TEXTS, pairs, strict=True)), top_k=None)
    found = outputs_of(http.post("/v2/models/nli/infer", body))
    assert found["label"].tolist() == [[one["label"] for one in row] for row in expected]
    close(found["score"], [[one["score"] for one in row] for row in expected])
    # One output as JSON and one as binary, in the order of the request.
    outputs = [
        {"name": "score", "parameters": {"binary_data": True}},
        {"name": "label", "parameters": {"binary_data": False}},
    ]
    mixed = outputs_of(http.post("/v2/models/nli/infer", {**body, "outputs": outputs}))
    assert list(mixed) == ["score", "label"]
    assert mixed["label"].tolist() == found["label"].tolist()
    body["parameters"] = {"binary_data_output": True}
    binary = outputs_of(http.post("/v2/models/nli/infer", {**body, "outputs": outputs[1:]}))
    assert list(binary) == ["label"]
    ranked = outputs_of(http.post("/v2/models/reranker/infer", {"inputs": body["inputs"]}))
    assert ranked["score"].shape == (3, 1)
    rows = runtime("reranker")(list(zip(TEXTS, pairs, strict=True)), top_k=None)
    close(ranked["score"], [[one["score"] for one in row] for row in rows])


def test_other_heads_answer_json(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    http = client("tagger", "filler", "reader")
    masked = ["the [MASK] sat", "a cat and a [MASK] in [MASK]"]
    cases = [("tagger", TEXTS), ("filler", masked)]
    for name, texts in cases:
        body = {"inputs": [text_input(texts)]}
        found = outputs_of(http.post(f"/v2/models/{name}/infer", body))["answer"]
        assert found.shape == (len(texts),)
        for got, expected in zip(found, runtime(name)(texts, truncation=True), strict=True):
            same(json.loads(got), expected)
    contexts = ["the cat sat on the mat", "Mary is the president", "Mary lives in London"]
    body = {"inputs": [text_input(TEXTS), text_input(contexts, name="text_pair")]}
    found = outputs_of(http.post("/v2/models/reader/infer", body))["answer"]
    expected = runtime("reader")(question=TEXTS, context=contexts)
    for got, other in zip(found, expected, strict=True):
        same(json.loads(got), other)


@pytest.fixture(scope="module")
def chooser(make_artifact: Callable[..., Path]) -> Iterator[Model]:
    """A model for multiple choice, whose pairs and token ids have one axis more."""
    artifact = Artifact.open(make_artifact("BertForMultipleChoice"))
    with Runtime(artifact, threads=1) as runtime:
        yield Model("chooser", artifact, runtime, runtime.batcher(), 7)


def test_multiple_choice(client: Callable[..., Any], chooser: Model) -> None:
    http = type(client("embedder"))(App(Context(Models([chooser]), Limits())))
    choices = [["a cat", "a dog", "paris"], ["mary", "london", "the mat"]]
    flat = [one for row in choices for one in row]
    body = {"inputs": [text_input(TEXTS[:2]), text_input(flat, [2, 3], "text_pair")]}
    found = outputs_of(http.post("/v2/models/chooser/infer", body))["answer"]
    prompts = [
        {"prompt": text, "choices": row} for text, row in zip(TEXTS[:2], choices, strict=True)
    ]
    for got, expected in zip(found, chooser.runtime(prompts), strict=True):
        same(json.loads(got), expected)
    # Each choice is a text that runs.
    small = type(http)(App(Context(Models([chooser]), Limits(inputs=5))))
    answer = small.post("/v2/models/chooser/infer", body)
    assert answer.json == {"error": "inference request batch-size must be <= 5 for 'chooser'"}
    ids = np.arange(2 * 3 * 4).reshape(2, 3, 4) % 50 + 5
    answer = http.post("/v2/models/chooser/infer", {"inputs": [ids_input("input_ids", ids)]})
    close(outputs_of(answer)["logits"], chooser.runtime.run(input_ids=ids)["logits"])


def same(got: Any, expected: Any) -> None:
    """Compare answers; scores of a text alone and in a batch differ by rounding."""
    if isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for name in got:
            same(got[name], expected[name])
    elif isinstance(expected, list):
        for one, other in zip(got, expected, strict=True):
            same(one, other)
    elif isinstance(expected, float):
        assert abs(got - expected) < 1e-5
    else:
        assert got == expected


@pytest.mark.parametrize("binary", [False, True])
def test_token_ids(client: Callable[..., Any], runtime: Callable[[str], Any], binary: bool) -> None:
    http, rt = client("embedder"), runtime("embedder")
    arrays = rt.tokenize(TEXTS, TEXTS)
    body: Any = {"inputs": [ids_input(name, array) for name, array in arrays.items()]}
    data, headers = json.dumps(body).encode(), {}
    if binary:
        parts = [array.astype("<i8").tobytes() for array in arrays.values()]
        data, headers = with_binary({**body, "parameters": {"binary_data_output": True}}, *parts)
    answer = http.post("/v2/models/embedder/infer", data, **headers)
    found = outputs_of(answer)
    assert list(found) == ["last_hidden_state", "pooler_output"]
    expected = rt.run(**arrays)
    for name, values in found.items():
        close(values, expected[name])
    assert answer.headers["x-compute-tokens"] == str(arrays["attention_mask"].sum())
    ids = arrays["input_ids"]
    flat = {**ids_input("input_ids", ids), "data": ids.ravel().tolist()}
    body = {"inputs": [flat], "outputs": [{"name": "sentence_embedding"}]}
    found = outputs_of(http.post("/v2/models/embedder/infer", body))
    assert list(found) == ["sentence_embedding"]
    close(
        found["sentence_embedding"],
        rt.run(input_ids=ids, outputs=["sentence_embedding"])["sentence_embedding"],
    )


def test_a_raw_body_is_one_text(client: Callable[..., Any], runtime: Callable[[str], Any]) -> None:
    answer = client("embedder").post(
        "/v2/models/embedder/infer", TEXTS[1].encode(), **{LENGTH: "0"}
    )
    assert LENGTH in answer.headers
    close(outputs_of(answer)["embedding"], runtime("embedder").embed(TEXTS[1:2]))


@pytest.mark.parametrize(("name", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies(
    client: Callable[..., Any],
    runtime: Callable[[str], Any],
    name: str,
    encode: Callable[[bytes], bytes],
) -> None:
    http = client("embedder")
    body, headers = with_binary({"inputs": [text_input(TEXTS)]}, packed(TEXTS))
    answer = http.post("/v2/models/embedder/infer", encode(body), content_encoding=name, **headers)
    close(outputs_of(answer)["embedding"], runtime("embedder").embed(TEXTS))
    for broken in (encode(body)[:-5], b"\x1f\x8b" + bytes(30), b"no"):
        answer = http.post("/v2/models/embedder/infer", broken, content_encoding=name, **headers)
        assert (answer.status, set(answer.json)) == (400, {"error"})


def test_any_content_type_is_read(client: Callable[..., Any]) -> None:
    """Clients send JSON without binary data as application/octet-stream too."""
    body = json.dumps({"inputs": [text_input(TEXTS)]}).encode()
    http = client("embedder")
    for kind in ("application/octet-stream", "application/json"):
        answer = http.post("/v2/models/embedder/infer", body, **{"content-type": kind})
        assert answer.status == 200


def test_large_tensors_are_read_and_written(
    client: Callable[..., Any], runtime: Callable[[str], Any]
) -> None:
    """These are read and written in a thread."""
    ids = np.random.default_rng(0).integers(5, 90, (1500, 48))
    body, headers = with_binary({"inputs": [ids_input("input_ids", ids)]}, ids.tobytes())
    http, expected = client("embedder"), runtime("embedder").run(input_ids=ids)
    for data, named in ((body, headers), (json_of(ids), {})):
        found = outputs_of(http.post("/v2/models/embedder/infer", data, **named))
        close(found["last_hidden_state"], expected["last_hidden_state"])


def json_of(ids: np.ndarray) -> bytes:
    return json.dumps({"inputs": [ids_input("input_ids", ids)]}).encode()


IDS = ids_input("input_ids", np.full((2, 3), 7))
TEXT = text_input(["a", "b"])


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        ([], "expected 1 inputs but got 0 inputs for model 'nli'"),
        ([{**TEXT, "name": "nope"}], "unexpected inference input 'nope' for model 'nli'"),
        ([{**TEXT, "name": "text_pair"}], "inference input 'text' is missing for model 'nli'"),
        ([TEXT, IDS], "takes texts or token ids"),
        ([{**IDS, "name": "attention_mask"}], "inference input 'input_ids' is missing"),
        (
            [{**TEXT, "datatype": "FP32"}],
            "inference input 'text' data-type is 'FP32', but model 'nli' expects 'BYTES'",
        ),
        ([{**IDS, "datatype": "FP16"}], "data-type is 'FP16', but model 'nli' expects 'INT64'"),
        ([{**IDS, "datatype": "INT32"}], "data-type is 'INT32', but model 'nli' expects 'INT64'"),
        (
            [{**TEXT, "shape": [2, 2]}],
            "unexpected shape for input 'text' for model 'nli'. Expected [-1], got [2,2]",
        ),
        ([{**TEXT, "shape": []}], "unexpected shape"),
        ([{**TEXT, "shape": [0], "data": []}], "unexpected shape"),
        ([{**IDS, "shape": [6]}], "Expected [-1,-1], got [6]"),
        ([{**IDS, "shape": [1 << 40, 3]}], "batch-size must be <= 8"),
        ([{**IDS, "shape": [2, 1 << 62], "data": [7]}], "has 1 elements"),
        ([{**IDS, "shape": [3, 2]}], "nested data"),
        ([{**IDS, "data": [[7, 7, 7], [7, 7]]}], "nested data"),
        ([{**IDS, "data": [7] * 5}], "has 5 elements, and its shape [2,3] holds 6"),
        ([{**IDS, "data": [7, 7, 7, 7, 7, True]}], "whole numbers"),
        ([{**IDS, "data": [7, 7, 7, 7, 7, 7.0]}], "whole numbers"),
        ([{**IDS, "data": [7, 7, 7, 7, 7, 1 << 63]}], "no INT64"),
        ([{**IDS, "data": [7, 7, 7, 7, 7, -1]}], "input_ids has the id -1"),
        ([{**IDS, "data": [7] * 6, "shape": [1, 6]}, TEXT], "takes texts or token ids"),
        ([IDS, ids_input("attention_mask", np.ones((2, 2), int))], "attention_mask has shape"),
        ([IDS, ids_input("attention_mask", np.zeros((2, 3), int))], "all zeros"),
        ([{**TEXT, "data": ["a", 3]}], "has to be strings"),
        ([{**TEXT, "data": ["a", ["b"]]}], "has to be strings"),
        ([{**TEXT, "data": "ab"}], "`data` has to be a list"),
        ([TEXT, TEXT], "same name"),
        ([TEXT, text_input(["a"], name="text_pair")], "unexpected shape for input 'text_pair'"),
        ([{**TEXT, "parameters": {"shared_memory_region": "r"}}], "shared memory"),
        ([{**TEXT, "parameters": {"binary_data_size": 4}}], "both"),
        ([{**TEXT, "shape": [2.0]}], "`shape`"),
        ([{**TEXT, "shape": [True]}], "`shape`"),
        ([{**TEXT, "shape": [-1]}], "`shape`"),
        ([{"name": "text", "datatype": "BYTES", "shape": [1]}], "`data` is missing"),
        (["text"], "list of objects"),
        ("text", "list of objects"),
        (None, "`inputs` is missing"),
        ([text_input(["a"] * 9)], "inference request batch-size must be <= 8 for 'nli'"),
    ],
)
def test_wrong_inputs(client: Callable[..., Any], inputs: Any, error: str) -> None:
    answer = client("nli", inputs=8).post("/v2/models/nli/infer", {"inputs": inputs})
    assert (answer.status, set(answer.json)) == (400, {"error"})
    assert error in answer.json["error"]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"outputs": [{"name": "nope"}]}, "unexpected inference output 'nope' for model 'nli'"),
        ({"outputs": [{"name": "logits"}]}, "unexpected inference output 'logits'"),
        ({"outputs": [{"name": "label"}, {"name": "label"}]}, "same name"),
        ({"outputs": [{}]}, "`name` is missing"),
        ({"outputs": {"name": "label"}}, "list of objects"),
        (
            {"outputs": [{"name": "label", "parameters": {"classification": 2}}]},
            "`classification` is not supported",
        ),
        (
            {"outputs": [{"name": "label", "parameters": {"shared_memory_region": "r"}}]},
            "shared memory is not supported",
        ),
        ({"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]}, "true or false"),
        ({"parameters": {"binary_data_output": "yes"}}, "true or false"),
        ({"parameters": {"timeout": -1}}, "whole number"),
        ({"parameters": {"timeout": 0.5}}, "whole number"),
        ({"parameters": []}, "object"),
        ({"id": 7}, "`id` has to be a string"),
    ],
)
def test_wrong_fields(client: Callable[..., Any], fields: Any, error: str) -> None:
    answer = client("nli").post("/v2/models/nli/infer", {"inputs": [TEXT], **fields})
    assert (answer.status, set(answer.json)) == (400, {"error"})
    assert error in answer.json["error"]


@pytest.mark.parametrize(
    ("part", "error"),
    [
        (packed(["a", "b"])[:-1], "ends within an element"),
        (packed(["a", "b"]) + b"\1", "ends within an element"),
        (packed(["a"]), "has 1 elements"),
        (packed(["a", "b", "c"]), "has 3 elements"),
        (struct.pack("<I", 0xFFFFFFFF) + b"a", "ends within an element"),
        (struct.pack("<I", 1) + b"\xff" + packed(["b"]), "is not UTF-8"),
        (b"", "has 0 elements"),
    ],
)
def test_wrong_binary_texts(client: Callable[..., Any], part: bytes, error: str) -> None:
    body, headers = with_binary({"inputs": [dict(TEXT)]}, part)
    answer = client("nli").post("/v2/models/nli/infer", body, **headers)
    assert (answer.status, set(answer.json)) == (400, {"error"})
    assert error in answer.json["error"]


def test_wrong_binary_sizes(client: Callable[..., Any]) -> None:
    http = client("nli")
    ids = np.full((2, 3), 7)
    body, headers = with_binary({"inputs": [dict(IDS)]}, ids.tobytes()[:-8])
    answer = http.post("/v2/models/nli/infer", body, **headers)
    assert answer.json == {
        "error": "unexpected total byte size 40 for input 'input_ids', expecting 48"
    }
    # A size that overflows 64 bits is compared as it is.
    huge = {"inputs": [{**IDS, "shape": [2, 1 << 63]}]}
    body, headers = with_binary(huge, ids.tobytes())
    answer = http.post("/v2/models/nli/infer", body, **headers)
    assert answer.json["error"].endswith(f"expecting {16 << 63}")
    body, headers = with_binary({"inputs": [dict(IDS)]}, ids.tobytes())
    length = int(headers[LENGTH])
    for wrong in (str(length - 1), str(len(body) + 1), "-1", "1e3", "²", "9" * 5000, ""):
        answer = http.request("POST", "/v2/models/nli/infer", body, {LENGTH: wrong})
        assert (answer.status, set(answer.json)) == (400, {"error"})
    for wrong_body in (body + b"x", body[:-1]):
        answer = http.post("/v2/models/nli/infer", wrong_body, **headers)
        assert "the JSON is followed by" in answer.json["error"]


def test_an_error_holds_no_text(client: Callable[..., Any]) -> None:
    body = {"inputs": [text_input(["the secret words"])]}
    answer = client("filler").post("/v2/models/filler/infer", body)
    assert answer.status == 400
    assert "the text has no" in answer.json["error"]
    assert "secret" not in answer.json["error"]


def test_busy_and_large_answers(
    client: Callable[..., Any], served: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = client("embedder", response=100).post("/v2/models/embedder/infer", {"inputs": [IDS]})
    assert (answer.status, set(answer.json)) == (413, {"error"})

    def full(*args: Any, **options: Any) -> None:
        raise BusyError("full")

    monkeypatch.setattr(served("embedder").batcher, "amany", full)
    monkeypatch.setattr(served("embedder").arrays, "run", full)
    for entry in (TEXT, IDS):
        answer = client("embedder").post("/v2/models/embedder/infer", {"inputs": [entry]})
        assert (answer.status, set(answer.json)) == (503, {"error"})
        assert int(answer.headers["retry-after"]) >= 1


def test_timeout_is_the_deadline(
    client: Callable[..., Any], served: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in microseconds, and shortens the server's own limit."""
    http, model = client("embedder"), served("embedder")
    seen = []
    amany = model.batcher.amany

    def spy(*args: Any, deadline: float, **options: Any) -> Any:
        seen.append(deadline - time.monotonic())
        return amany(*args, deadline=deadline, **options)

    monkeypatch.setattr(model.batcher, "amany", spy)
    for timeout in (2_000_000, 0, 10**15):
        body = {"inputs": [TEXT], "parameters": {"timeout": timeout}}
        assert http.post("/v2/models/embedder/infer", body).status == 200
    assert 1 < seen[0] <= 2
    assert all(25 < seconds <= 30 for seconds in seen[1:])

    monkeypatch.setattr(model.runtime, "run", lambda **_: time.sleep(0.3))
    answer = http.post(
        "/v2/models/embedder/infer", {"inputs": [IDS], "parameters": {"timeout": 20_000}}
    )
    assert (answer.status, set(answer.json)) == (504, {"error"})
    assert answer.headers["x-should-retry"] == "false"


def test_mutated_requests_are_never_a_server_error(client: Callable[..., Any]) -> None:
    """A wrong request is the client's error, whatever is wrong with it."""
    http = client("embedder", "nli", inputs=8, response=49152)
    chance = random.Random(0)
    ids = np.full((2, 3), 7)
    seeds: list[tuple[bytes, dict[str, str]]] = [
        (json.dumps({"id": "x", "inputs": [TEXT]}).encode(), {}),
        (json.dumps({"inputs": [IDS], "outputs": [{"name": "logits"}]}).encode(), {}),
        with_binary({"inputs": [dict(TEXT)]}, packed(["a", "b"])),
        with_binary(
            {"inputs": [dict(IDS), {**IDS, "name": "attention_mask"}]},
            ids.tobytes(),
            np.ones((2, 3), np.int64).tobytes(),
        ),
        (b"a text", {LENGTH: "0"}),
    ]
    values = [None, True, -1, 0, 1.5, 1 << 63, "", "text", [], [[]], {}, [{}], [None], "\ud800"]
    statuses: dict[int, int] = {}
    for turn in range(3000):
        body, headers = chance.choice(seeds)
        if turn % 2 and headers.get(LENGTH) != "0":
            body, headers = mutate_fields(chance, body, headers, values)
        else:
            body, headers = mutate_bytes(chance, body, headers)
        name = chance.choice(["embedder", "nli"])
        answer = http.request("POST", f"/v2/models/{name}/infer", body, headers)
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        assert answer.status in (200, 400, 413), (body, headers, answer.body)
        if answer.status != 200:
            assert set(answer.json) == {"error"}
    assert statuses[400] > 1000
    assert statuses[200] > 100


def mutate_bytes(
    chance: random.Random, body: bytes, headers: dict[str, str]
) -> tuple[bytes, dict[str, str]]:
    """Change, drop or add some bytes, or the length in the header."""
    data = bytearray(body)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(data))
        kind = chance.randrange(4)
        if kind == 0:
            data[place] = chance.randrange(256)
        elif kind == 1:
            del data[place]
        elif kind == 2:
            data.insert(place, chance.randrange(256))
        elif headers:
            size = int(headers[LENGTH]) + chance.randint(-3, 3)
            headers = {LENGTH: str(size)}
    return bytes(data), headers


def mutate_fields(
    chance: random.Random, body: bytes, headers: dict[str, str], values: list[Any]
) -> tuple[bytes, dict[str, str]]:
    """Give a place in the JSON another value, or none, and keep the header right."""
    length = int(headers.get(LENGTH, len(body)))
    document, tail = json.loads(body[:length]), body[length:]
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = chance.choice(keys)
        if not isinstance(place[key], (dict, list)) or not place[key] or chance.random() < 0.2:
            break
        place = place[key]
    if chance.random() < 0.2:
        del place[key]
    else:
        place[key] = chance.choice(values)
    head = json.dumps(document).encode()
    return head + tail, {LENGTH: str(len(head))} if headers else {}
