"""Fixtures: models under names, and clients that call an application without a server."""

import asyncio
import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bertrt.artifact.directory import Artifact
from bertrt.runtime import Runtime
from bertrt.serving.app import App
from bertrt.serving.context import Context, Limits
from bertrt.serving.models import Model, Models

NLI = {0: "contradiction", 1: "neutral", 2: "entailment"}
# The class and the config's changes of each model.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "embedder": ("BertModel", {}),
    "reranker": ("BertForSequenceClassification", {"num_labels": 1}),
    "nli": (
        "BertForSequenceClassification",
        {"id2label": NLI, "label2id": {label: id for id, label in NLI.items()}},
    ),
    "tagger": ("BertForTokenClassification", {}),
    "reader": ("BertForQuestionAnswering", {}),
    "filler": ("BertForMaskedLM", {}),
    "splade": ("BertForMaskedLM", {"task": "sparse-embedding"}),
    "chooser": ("BertForMultipleChoice", {}),
    "writer": ("BertLMHeadModel", {"is_decoder": True}),
}


@dataclass
class Answer:
    """An answer: its status, its headers by lower-case name, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Calls an application; each call has an event loop of its own."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, b"", headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, data, {"content-type": "application/json", **headers})

    def post_gzip(self, path: str, body: Any) -> Answer:
        data = gzip.compress(json.dumps(body).encode())
        return self.post(path, data, content_encoding="gzip")

    def request(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        return asyncio.run(self._request(method, path, body, headers))

    async def _request(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        sent: list[Any] = []
        # In two parts, as a body may arrive.
        parts = [body[: len(body) // 2], body[len(body) // 2 :]]

        async def receive() -> dict[str, Any]:
            if not parts:
                await asyncio.Event().wait()
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(message: Any) -> None:
            sent.append(message)

        pairs = [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ]
        scope = {"type": "http", "method": method, "path": path, "headers": pairs}
        await self._app(scope, receive, send)
        start, end = sent
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        # An answer that can have no body must not say how long it is.
        length = found.get("content-length")
        if method == "HEAD":
            assert end["body"] == b""
        else:
            assert length == (str(len(end["body"])) if start["status"] != 204 else None)
        return Answer(start["status"], found, end["body"])


@pytest.fixture(scope="session")
def served(
    make_artifact: Callable[..., Path], request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Model]]:
    """A factory: a name in MODELS, or "colbert", to the model; all are closed at the end."""
    models: dict[str, Model] = {}

    def make(name: str) -> Model:
        if name not in models:
            if name == "colbert":
                artifact = Artifact.open(request.getfixturevalue("colbert_artifact"))
            else:
                class_name, changes = MODELS[name]
                artifact = Artifact.open(make_artifact(class_name, **changes))
            runtime = Runtime(artifact, threads=1)
            models[name] = Model(name, artifact, runtime, runtime.batcher(), created=7)
        return models[name]

    yield make
    for model in models.values():
        model.runtime.close()


@pytest.fixture(scope="session")
def make_client() -> type[Client]:
    """A factory: an application to a client of it."""
    return Client


@pytest.fixture(scope="session")
def client(served: Callable[[str], Model]) -> Callable[..., Client]:
    """A factory: names in MODELS, limits and keys to a client of an application with these."""

    def make(*names: str, api_keys: Sequence[str] = (), **limits: Any) -> Client:
        context = Context(Models([served(name) for name in names]), Limits(**limits))
        return Client(App(context, api_keys))

    return make


@pytest.fixture(scope="session")
def runtime(served: Callable[[str], Model]) -> Callable[[str], Runtime]:
    """A factory: a name in MODELS to its runtime, whose answers are the reference."""
    return lambda name: served(name).runtime
