"""Fixtures of the batcher's tests: a runtime whose batches are recorded and can be held up."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import bertrt


class BatchControl:
    """A runner's `run_batch` that records the lengths of its texts, and can be paused."""

    def __init__(self, run_batch: Callable[..., Any]) -> None:
        self.run_batch = run_batch
        self.lengths: list[list[int]] = []
        self.errors: list[BaseException] = []
        self.running = threading.Event()
        self.running.set()

    def __call__(self, encodings: Sequence[Any], **options: Any) -> Any:
        self.lengths.append([len(encoding.ids) for encoding in encodings])
        assert self.running.wait(60)
        if self.errors:
            raise self.errors.pop()
        return self.run_batch(encodings, **options)

    def pause(self, batcher: Any) -> Any:
        """Keep a worker busy with one request until `resume`; return the request's Future."""
        self.running.clear()
        before = len(self.lengths)
        future = batcher.submit("the cat")
        deadline = time.monotonic() + 60
        while len(self.lengths) == before:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return future

    def resume(self) -> None:
        """Run the batch that is paused, and all others."""
        self.running.set()


@pytest.fixture
def rt(make_artifact: Callable[..., Path]) -> Iterator[Any]:
    with bertrt.load(make_artifact("BertForSequenceClassification"), threads=1) as runtime:
        yield runtime


@pytest.fixture
def batches(rt: Any, monkeypatch: pytest.MonkeyPatch) -> BatchControl:
    control = BatchControl(rt._runner.run_batch)
    monkeypatch.setattr(rt._runner, "run_batch", control)
    return control
