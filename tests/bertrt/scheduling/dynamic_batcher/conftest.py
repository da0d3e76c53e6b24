"""What the tests of the stream share: a runtime whose batches can be watched and held up."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import bertrt


class Gate:
    """A runtime's `batch` that notes what it is given, and can be held shut."""

    def __init__(self, batch: Callable[..., Any]) -> None:
        self.batch = batch
        self.batches: list[list[int]] = []
        self.errors: list[BaseException] = []
        self.open = threading.Event()
        self.open.set()

    def __call__(self, encodings: Sequence[Any], **options: Any) -> Any:
        self.batches.append([len(one.ids) for one in encodings])
        assert self.open.wait(60)
        if self.errors:
            raise self.errors.pop()
        return self.batch(encodings, **options)

    def shut(self, stream: Any) -> Any:
        """Keep a worker busy with one request; its Future."""
        self.open.clear()
        before = len(self.batches)
        future = stream.submit("the cat")
        deadline = time.monotonic() + 60
        while len(self.batches) == before:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return future


@pytest.fixture
def rt(make_artifact: Callable[..., Path]) -> Iterator[Any]:
    with bertrt.load(make_artifact("BertForSequenceClassification"), threads=1) as runtime:
        yield runtime


@pytest.fixture
def gate(rt: Any, monkeypatch: pytest.MonkeyPatch) -> Gate:
    one = Gate(rt._runner.run_batch)
    monkeypatch.setattr(rt._runner, "run_batch", one)
    return one
