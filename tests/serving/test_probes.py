"""What probes and other tools ask beside posting texts: HEAD, health by a name, and the limits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertrt.serving.app import ROUTES, App
from bertrt.serving.context import Context, Limits
from bertrt.serving.loading import open_model
from bertrt.serving.models import Models
from bertrt.serving.options import Options


@pytest.mark.parametrize(("method", "path"), [key for key in ROUTES if key[0] == "GET"])
def test_a_head_is_its_get_without_the_body(
    client: Callable[..., Any], method: str, path: str
) -> None:
    http = client("embedder", api_keys=["k"])
    path = path.replace("*", "embedder")
    for headers in ({}, {"authorization": "Bearer k"}):
        whole, head = (http.request(name, path, b"", headers) for name in (method, "HEAD"))
        assert head.status == whole.status
        # Counts grow with each request, so their length may.
        moving = {"x-request-id", *(["content-length"] if path == "/metrics" else [])}
        kept = {name: text for name, text in whole.headers.items() if name not in moving}
        assert kept.items() <= head.headers.items()


def test_a_head_of_what_is_posted(client: Callable[..., Any]) -> None:
    answer = client("embedder").request("HEAD", "/embed", b"", {})
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert client("embedder").post("/health", {}).headers["allow"] == "GET, HEAD"


OPEN = [path for (method, path), route in ROUTES.items() if route.is_open]


@pytest.mark.parametrize("path", OPEN)
def test_an_unknown_name_is_not_healthy(client: Callable[..., Any], path: str) -> None:
    http = client("embedder", api_keys=["k"])
    assert http.get(f"/models/embedder{path}").status == 200
    answer = http.get(f"/models/nothing{path}")
    assert answer.status == 404
    # No key was given, so what is loaded stays unsaid.
    assert b"embedder" not in answer.body
    # While models are loaded, nobody knows their names.
    loading = client().get(f"/models/nothing{path}")
    assert loading.status == 200


def test_info_says_how_many_texts_may_wait(
    make_artifact: Callable[..., Path], make_client: type
) -> None:
    model = open_model("e", make_artifact("BertModel"), Options(threads=1, max_waiting_texts=77))
    http = make_client(App(Context(Models([model]), Limits(inputs=5))))
    info = http.get("/info").json
    model.runtime.close()
    assert (info["max_concurrent_requests"], info["max_client_batch_size"]) == (77, 5)
