"""The encoder: requests are encoded in slices that take turns, and added when they are complete."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from bertrt.errors import InputError
from bertrt.heads.request import HeadRequest
from bertrt.scheduling import encoder
from bertrt.scheduling.encoder import Encoder, encode
from bertrt.scheduling.request_queue import RequestQueue


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> RequestQueue:
    monkeypatch.setattr(encoder, "_SLICE", 0.0)  # each slice is one input
    return RequestQueue(100, 1000, 10)


def accept(queue: RequestQueue, fakes: Any, inputs: int) -> Any:
    request = fakes.many(*[5] * inputs)
    request.waiting.clear()
    queue.accept(request)
    return request


def encodings(fakes: Any, steps: list[str], name: str, count: int) -> Iterator[HeadRequest]:
    for _ in range(count):
        steps.append(name)
        yield fakes.input(5)


def test_requests_take_turns_input_by_input(queue: RequestQueue, fakes: Any) -> None:
    steps: list[str] = []
    own = Encoder(queue)
    for name, count in (("a", 4), ("b", 2), ("c", 1)):
        own.submit(accept(queue, fakes, count), encodings(fakes, steps, name, count))
    own.close()
    own.work()
    assert "".join(steps) == "abcabaa"
    load = queue.load(alive=True)
    assert (load.waiting_texts, load.waiting_tokens) == (7, 35)


def test_a_request_that_ended_is_not_encoded_further(queue: RequestQueue, fakes: Any) -> None:
    steps: list[str] = []
    cancelled, late = accept(queue, fakes, 3), accept(queue, fakes, 3)

    def cancel_after_one() -> Iterator[HeadRequest]:
        yield from encodings(fakes, steps, "a", 1)
        cancelled.future.cancel()
        yield from encodings(fakes, steps, "a", 2)

    own = Encoder(queue)
    own.submit(cancelled, cancel_after_one())
    own.submit(late, encodings(fakes, steps, "b", 3))
    queue.fail_late(late)
    own.close()
    own.work()
    assert steps == ["a", "a"]
    assert queue.load(alive=True).waiting_texts == 0


def test_an_error_reaches_its_request_only(queue: RequestQueue, fakes: Any) -> None:
    def fail() -> Iterator[HeadRequest]:
        yield fakes.input(5)
        raise InputError("too long")

    failing, other = accept(queue, fakes, 2), accept(queue, fakes, 2)
    own = Encoder(queue)
    own.submit(failing, fail())
    own.submit(other, encodings(fakes, [], "b", 2))
    own.close()
    own.work()
    with pytest.raises(InputError, match="too long"):
        failing.future.result(0)
    assert not other.future.done()
    assert queue.load(alive=True).waiting_texts == 2


def test_what_does_not_fit_when_it_is_encoded_is_refused(queue: RequestQueue, fakes: Any) -> None:
    request = accept(queue, fakes, 1)
    own = Encoder(queue)
    own.submit(request, iter([fakes.input(600, 600)]))
    own.close()
    own.work()
    with pytest.raises(InputError, match="has 1200 tokens, and this batcher holds 1000"):
        request.future.result(0)
    other = accept(queue, fakes, 1)
    with pytest.raises(InputError, match="has 1200 tokens"):
        encode(queue, other, iter([fakes.input(1200)]))
    assert queue.load(alive=True).waiting_texts == 0


def test_the_time_of_encoding_is_that_of_all_slices(queue: RequestQueue, fakes: Any) -> None:
    def slowly() -> Iterator[HeadRequest]:
        for _ in range(3):
            time.sleep(0.002)
            yield fakes.input(5)

    request = accept(queue, fakes, 3)
    own = Encoder(queue)
    own.submit(request, slowly())
    own.close()
    own.work()
    assert request.describe(None).tokenization >= 0.006
