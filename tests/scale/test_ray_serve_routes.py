"""Every route answers through Ray Serve as `bertrt serve` does."""

import gzip
import json
import os
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from ray import serve

import bertrt.ray
from bertrt.serving.app import ROUTES, split_model
from ray_serve import Answer, ask, local_cluster

ARTIFACTS = Path(os.environ["ARTIFACTS"])
# Without the writer, which draws its words.
MODELS = ("embedder", "reranker", "sentiment", "nli", "tagger", "filler", "reader")
DOCUMENT = json.loads(files("bertrt.serving").joinpath("openapi.json").read_text())
# What differs by its nature: ids, times, and counts of the process.
CHANGING = {"id", "created"}
# float32 sums in batches of other sizes.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The address of `bertrt serve` with all models."""
    command = ["bertrt", "serve", "--json", "--port", "0", "--threads", "1"]
    process = subprocess.Popen(
        [*command, *(str(ARTIFACTS / name) for name in MODELS)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())["url"]
    process.terminate()
    process.communicate()


@pytest.fixture(scope="module")
def ray_url() -> Iterator[str]:
    """The address of the same models in Ray Serve."""
    with local_cluster() as url:
        serve.run(bertrt.ray.app([ARTIFACTS / name for name in MODELS]), route_prefix="/")
        yield url


def cases() -> Iterator[tuple[str, str, Any]]:
    """Yield the document's own examples: a method, a path and a body, for each model."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            body = content.get("application/json", {}).get("example")
            if "{model}" not in path:
                yield method, path, body
            for name in MODELS:
                inner = path.replace("{model}", name).replace("{version}", "1")
                named = body and {**body, "model": name} if "model" in (body or {}) else body
                prefix = "" if "{model}" in path else f"/models/{name}"
                yield method, f"{prefix}{inner}", named


def same(got: Any, expected: Any, path: str) -> None:
    if isinstance(expected, dict):
        assert got.keys() == expected.keys(), path
        for name in expected.keys() - CHANGING:
            same(got[name], expected[name], f"{path}.{name}")
    elif isinstance(expected, list):
        assert len(got) == len(expected), path
        for place, (one, other) in enumerate(zip(got, expected, strict=True)):
            same(one, other, f"{path}[{place}]")
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE), path
    else:
        assert got == expected, path


def same_answer(got: Answer, expected: Answer, path: str) -> None:
    assert got.status == expected.status, (path, got.body, expected.body)
    kind = expected.header("content-type")
    assert got.header("content-type") == kind, path
    if path.endswith("/metrics"):
        return  # of another process
    if kind and kind[0].startswith("application/json") and expected.body:
        same(got.json, expected.json, path)
    else:
        assert got.body == expected.body, path


def test_the_examples_are_of_all_routes() -> None:
    asked = {(method.upper(), split_model(path)[2]) for method, path, _ in cases()}
    assert asked == set(ROUTES)


def test_every_route(served: str, ray_url: str) -> None:
    answered = 0
    for method, path, body in cases():
        got, expected = (
            ask(f"{url}{path}", body, method=method.upper()) for url in (ray_url, served)
        )
        same_answer(got, expected, path)
        answered += expected.status == 200
    # Not only the same refusals.
    assert answered > 150


@pytest.mark.parametrize(
    ("path", "body", "options"),
    [
        ("/nowhere", {"inputs": "a"}, {}),
        ("/models/nobody/embed", {"inputs": "a"}, {}),
        ("/embed", None, {"method": "GET"}),
        ("/embed", b"{", {}),
        ("/embed", {"inputs": []}, {}),
        ("/embed", {"inputs": [1.5]}, {}),
        ("/embed", b"a", {"content_type": "text/plain"}),
        ("/embed", {"inputs": ["a"] * 2049}, {}),
        ("/embed", gzip.compress(b"x" * ((16 << 20) + 1)), {"content_encoding": "gzip"}),
        ("/models/embedder/embed", {"inputs": "cat " * 2000, "truncate": False}, {}),
        ("/v1/embeddings", {"input": [], "model": "embedder"}, {}),
        ("/v1/models/nobody", None, {}),
        ("/v2/rerank", {"query": "q", "documents": [], "model": "reranker"}, {}),
        ("/v2/models/nobody/infer", {"inputs": []}, {}),
        ("/embed", b"not gzip", {"content_encoding": "gzip"}),
        ("/embed", b"{}", {"content_encoding": "br"}),
    ],
)
def test_what_is_refused(
    served: str, ray_url: str, path: str, body: Any, options: dict[str, str]
) -> None:
    got, expected = (ask(f"{url}{path}", body, **options) for url in (ray_url, served))
    assert expected.status >= 400
    same_answer(got, expected, path)


def test_a_request_id_comes_back_once(ray_url: str) -> None:
    answer = ask(f"{ray_url}/health", x_request_id="mine")
    assert answer.header("x-request-id") == ["mine"]
    assert len(ask(f"{ray_url}/health").header("x-request-id")) == 1


def test_truncation_is_told(ray_url: str) -> None:
    answer = ask(f"{ray_url}/models/embedder/embed", {"inputs": ["cat " * 2000, "a"]})
    assert answer.header("x-bertrt-truncated") == ["1"]
    assert int(answer.header("x-compute-tokens")[0]) > 100


def test_below_a_prefix(served: str, ray_url: str) -> None:
    app = bertrt.ray.app({"x": ARTIFACTS / "embedder"}, max_inputs=3)
    serve.run(app, name="below", route_prefix="/bert/one")
    expected = ask(f"{served}/models/embedder/embed", {"inputs": "the cat"})
    for path in ("/embed", "/models/x/embed"):
        same_answer(ask(f"{ray_url}/bert/one{path}", {"inputs": "the cat"}), expected, path)
    assert ask(f"{ray_url}/bert/one").status == 200
    assert ask(f"{ray_url}/bert/one/health").status == 200
    assert ask(f"{ray_url}/bert/one/nowhere").json["error"] == "there is no such route"
    assert ask(f"{ray_url}/bert/one/embed", {"inputs": ["a"] * 4}).status == 422
    serve.delete("below")
