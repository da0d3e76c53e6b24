"""Arrays run in a thread, one request at a time, and few wait."""

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest

from bertrt.errors import BusyError
from bertrt.serving import side_thread
from bertrt.serving.array_runner import ArrayRunner
from bertrt.serving.errors import HttpError


class SlowRuntime:
    """Answers when it is allowed to, and notes what ran."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.ran: list[int] = []
        self.threads: set[str] = set()

    def run(self, *, outputs: Any, input_ids: np.ndarray) -> dict[str, np.ndarray]:
        self.go.wait(10)
        self.ran.append(int(input_ids[0, 0]))
        self.threads.add(threading.current_thread().name)
        return {"logits": input_ids.astype(np.float32)}


def request(runner: ArrayRunner, id: int, deadline: float | None = None) -> Any:
    return runner.run({"input_ids": np.full((2, 3), id)}, ["logits"], deadline)


def test_requests_run_in_turn_and_few_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_thread, "_MOST_WAITING", 3)
    runtime = SlowRuntime()
    runner = ArrayRunner(runtime)  # type: ignore[arg-type]

    async def main() -> None:
        tasks = [asyncio.create_task(request(runner, id)) for id in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await request(runner, 9)
        tasks[2].cancel()
        await asyncio.sleep(0)
        with pytest.raises(HttpError) as late:
            await request(runner, 4, time.monotonic() + 0.02)
        assert late.value.status == 504
        runtime.go.set()
        first, second = await tasks[0], await tasks[1]
        assert (first.tokens, second.answers["logits"][0, 0]) == (6, 1)
        assert (await request(runner, 5)).queue >= 0

    asyncio.run(main())
    # What was cancelled, late or refused did not run.
    assert runtime.ran == [0, 1, 5]
    assert len(runtime.threads) == 1
    assert threading.current_thread().name not in runtime.threads
