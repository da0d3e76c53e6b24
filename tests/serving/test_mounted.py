"""The application within another one, which calls it with the whole path."""

from collections.abc import Callable
from typing import Any

import pytest

from bertrt.serving.app import App
from bertrt.serving.context import Context, Limits
from bertrt.serving.models import Models


@pytest.fixture
def mounted(served: Callable[[str], Any], client: Callable[..., Any]) -> Any:
    """A client of an application that has another one under /bert."""
    inner = App(Context(Models([served("embedder")]), Limits()))

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "root_path": "/bert"}, receive, send)

    return type(client("embedder"))(outer)


def test_routes_below_a_path(mounted: Any, runtime: Callable[[str], Any]) -> None:
    vector = runtime("embedder").embed("the cat").tolist()
    for path in ("/bert/embed", "/bert/models/embedder/embed"):
        assert mounted.post(path, {"inputs": "the cat"}).json == [pytest.approx(vector, abs=1e-5)]
    assert mounted.get("/bert/health").status == 200
    assert mounted.get("/bert").status == 200
    assert mounted.get("/bert/nowhere").status == 404
    # The form of an error is that of the route.
    answer = mounted.post("/bert/v1/embeddings", {"input": []})
    assert (answer.status, answer.json["error"]["param"]) == (400, "input")
