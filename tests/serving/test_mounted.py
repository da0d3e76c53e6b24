"""The application within another one, which calls it with the whole path."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bertrt.serving.app import App, Route
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


@pytest.mark.parametrize(("is_draining", "reason"), [(False, "disconnect"), (True, "draining")])
def test_a_server_that_cancels(is_draining: bool, reason: str) -> None:
    """Ray Serve cancels a request when its client has left; our own server, when it has no time."""
    context = Context(Models([]), Limits(), is_ready=not is_draining, is_draining=is_draining)
    sent: list[Any] = []

    async def hang(*_: Any) -> Any:
        await asyncio.Event().wait()

    async def main() -> None:
        parts = [{"type": "http.request", "body": b""}]

        async def receive() -> dict[str, Any]:
            return parts.pop() if parts else await hang()

        async def send(message: Any) -> None:
            sent.append(message)

        app = App(context, routes={("POST", "/hang"): Route(hang)})
        scope = {"type": "http", "method": "POST", "path": "/hang", "headers": []}
        request = asyncio.create_task(app(scope, receive, send))
        await asyncio.sleep(0.05)
        request.cancel()
        await request

    asyncio.run(main())
    assert sent[0]["status"] == (503 if is_draining else 499)
    text = context.metrics.text(context.models, context.is_ready)
    assert f'bertrt_rejected_total{{model="",reason="{reason}"}} 1' in text
