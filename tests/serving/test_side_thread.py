"""Work beside the event loop is bounded, takes turns in slices, and stops for who has gone."""

import asyncio
import gzip
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from bertrt.errors import BusyError
from bertrt.serving import message, side_thread
from bertrt.serving.errors import HttpError
from bertrt.serving.side_thread import SideThread


def test_slices_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_thread, "_SLICE", 0.0)
    thread, ran = SideThread("side"), []

    def run(item: str) -> str:
        ran.append((item, threading.current_thread().name))
        return item.upper()

    async def main() -> None:
        one, two = await asyncio.gather(thread.map(run, "abc"), thread.map(run, "xy"))
        assert (one, two) == (["A", "B", "C"], ["X", "Y"])
        assert await thread.map(run, "") == []

    asyncio.run(main())
    assert [item for item, _ in ran] == ["a", "x", "b", "y", "c"]
    assert {name for _, name in ran} == {"side_0"}


def test_few_wait_and_none_after_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_thread, "_MOST_WAITING", 2)
    monkeypatch.setattr(side_thread, "_SLICE", 0.0)
    thread, go, ran = SideThread("side"), threading.Event(), []

    def run(item: int) -> None:
        ran.append(item)
        go.wait(10)

    async def ask(items: Any, deadline: float | None = None) -> Any:
        async with thread.admitted(deadline):
            return await thread.map(run, items)

    async def main() -> None:
        gone = asyncio.create_task(ask([1, 2, 3]))
        waits = asyncio.create_task(ask([4]))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await ask([5])
        gone.cancel()
        await asyncio.sleep(0)
        with pytest.raises(HttpError) as late:
            await ask([6], time.monotonic() + 0.01)
        assert late.value.status == 504
        go.set()
        await waits

    asyncio.run(main())
    assert ran == [1, 4]


def test_no_tokenizer_runs_in_the_event_loop(
    client: Callable[..., Any], served: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, loop, seen = served("embedder").runtime.tokenizer, threading.current_thread(), []
    for name in ("encode", "encode_whole", "decode"):
        function = getattr(tokenizer, name)

        def spy(*args: Any, function: Any = function, **options: Any) -> Any:
            seen.append(threading.current_thread())
            return function(*args, **options)

        monkeypatch.setattr(tokenizer, name, spy)
    http = client("embedder")
    for path, body in (
        ("/embed", {"inputs": ["a", "b"]}),
        ("/tokenize", {"inputs": ["a", "b"]}),
        ("/decode", {"ids": [[5], [6]]}),
    ):
        assert http.post(path, body).status == 200
    assert len(seen) == 6
    assert loop not in seen


def test_large_bodies_are_read_and_written_beside_the_event_loop(
    client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, seen = threading.current_thread(), []
    for name in ("_decompress", "write_pieces"):
        function = getattr(message, name)

        def spy(*args: Any, name: str = name, function: Any = function) -> Any:
            seen.append((name, threading.current_thread() is loop))
            return function(*args)

        monkeypatch.setattr(message, name, spy)
    texts = ["the cat sat on the mat"] * 300
    body = gzip.compress(json.dumps({"inputs": texts}).encode())
    http = client("embedder")
    assert http.post("/embed", body, content_encoding="gzip").status == 200
    assert seen == [("_decompress", False), ("write_pieces", False)]
    # A small answer is written at once, and not in pieces.
    assert http.post("/embed", {"inputs": "a"}).status == 200
    assert len(seen) == 2
