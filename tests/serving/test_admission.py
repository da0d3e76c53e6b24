"""What does not fit: a full queue, a deadline, a client that goes away."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bertrt.artifact.directory import Artifact
from bertrt.runtime import Runtime
from bertrt.serving.app import App
from bertrt.serving.context import Context, Limits
from bertrt.serving.models import Model, Models


class Held:
    """A model whose runs wait until they are released, and a queue of four texts."""

    def __init__(self, directory: Path) -> None:
        artifact = Artifact.open(directory)
        self.runtime = Runtime(artifact, threads=1)
        self.batcher = self.runtime.batcher(max_waiting=4, workers=1)
        self.release, self.began = threading.Event(), threading.Event()
        run = self.batcher._runner.run_batch

        def held(*args: Any, **options: Any) -> Any:
            self.began.set()
            self.release.wait()
            return run(*args, **options)

        self.batcher._runner.run_batch = held  # type: ignore[method-assign]
        self.model = Model("held", artifact, self.runtime, self.batcher, created=7)

    def app(self, **limits: Any) -> App:
        return App(Context(Models([self.model]), Limits(**limits)))


@pytest.fixture
def held(make_artifact: Callable[..., Path]) -> Iterator[Held]:
    held = Held(make_artifact("BertModel"))
    yield held
    held.release.set()
    held.runtime.close()


async def post(app: App, body: Any, gone: asyncio.Event | None = None) -> tuple[int, Any, Any]:
    """Post to /embed; the client goes away when `gone` is set. Returns status, headers, body."""
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": json.dumps(body).encode()}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": "/embed", "headers": []}, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    data = sent[1]["body"]
    return sent[0]["status"], headers, json.loads(data) if data else None


async def begun(held: Held) -> None:
    await asyncio.to_thread(held.began.wait)


def test_a_full_queue_refuses_whole_requests(held: Held) -> None:
    async def scenario() -> None:
        app = held.app()
        running = asyncio.create_task(post(app, {"inputs": "the cat"}))
        await begun(held)
        waiting = asyncio.create_task(post(app, {"inputs": ["a", "b", "c"]}))
        while held.batcher.load.waiting_texts != 3:
            await asyncio.sleep(0.001)
        status, headers, body = await post(app, {"inputs": ["d", "e"]})
        assert (status, body["error_type"]) == (429, "Overloaded")
        assert int(headers["retry-after"]) >= 1
        assert int(headers["retry-after-ms"]) >= 1
        assert held.batcher.load.waiting_texts == 3
        status, _, body = await post(app, {"inputs": ["a"] * 5})
        assert (status, body["error_type"]) == (413, "Validation"), "more than is ever held"
        assert body["error"] == (
            "the request has 5 texts, and at most 4 may wait: ask for less at a time"
        )
        held.release.set()
        assert (await running)[0] == (await waiting)[0] == 200

    asyncio.run(scenario())


def test_a_deadline(held: Held) -> None:
    async def scenario() -> None:
        running = asyncio.create_task(post(held.app(), {"inputs": "the cat"}))
        await begun(held)
        status, headers, body = await post(held.app(seconds=0.01), {"inputs": "late"})
        assert (status, headers["x-should-retry"]) == (504, "false")
        assert "deadline" in body["error"]
        held.release.set()
        assert (await running)[0] == 200

    asyncio.run(scenario())


def test_a_client_that_goes_away_leaves_the_queue(held: Held) -> None:
    async def scenario() -> None:
        app, gone = held.app(), asyncio.Event()
        running = asyncio.create_task(post(app, {"inputs": "the cat"}))
        await begun(held)
        leaving = asyncio.create_task(post(app, {"inputs": ["a", "b"]}, gone))
        while held.batcher.load.waiting_texts != 2:
            await asyncio.sleep(0.001)
        gone.set()
        await leaving
        while held.batcher.load.waiting_texts:
            await asyncio.sleep(0.001)
        held.release.set()
        assert (await running)[0] == 200

    asyncio.run(scenario())
