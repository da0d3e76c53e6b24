"""Requests of the queue whose encodings have lengths and nothing else."""

from typing import Any

import pytest

from bertrt.heads.request import HeadRequest
from bertrt.scheduling.queued_request import QueuedRequest


class FakeEncoding:
    """An encoding with this number of ids."""

    def __init__(self, length: int) -> None:
        self.ids = range(length)
        self.overflowing = ()


class Fakes:
    """Makes requests."""

    def input(self, *lengths: int, **fields: Any) -> HeadRequest:
        """One input with encodings of these lengths; its answer is their outputs."""
        encodings: list[Any] = [FakeEncoding(length) for length in lengths]
        return HeadRequest(encodings, list, **fields)

    def accept(self, *inputs: HeadRequest, **limits: Any) -> QueuedRequest:
        """A request of these inputs, encoded; its result is the list of their answers."""
        run_batch: Any = None
        request = QueuedRequest(len(inputs), lambda request: request.answers, run_batch, **limits)
        request.fill(inputs, 0.0)
        return request

    def one(self, *lengths: int, **fields: Any) -> QueuedRequest:
        """A request of one input that has encodings of these lengths."""
        return self.accept(self.input(*lengths, **fields))

    def many(self, *lengths: int, **limits: Any) -> QueuedRequest:
        """A request with an input of one encoding for each length."""
        return self.accept(*(self.input(length) for length in lengths), **limits)


@pytest.fixture(scope="session")
def fakes() -> Fakes:
    return Fakes()
