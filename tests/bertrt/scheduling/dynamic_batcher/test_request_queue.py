"""What a stream's queue gives out: always the oldest, with company that suits it."""

import random
import threading
from typing import Any

import pytest

from bertrt.errors import BertrtError, BusyError
from bertrt.heads.base import HeadRequest
from bertrt.scheduling.request_queue import Request, RequestQueue, choose


class Encoding:
    """As many ids as it is asked for."""

    def __init__(self, length: int) -> None:
        self.ids = range(length)


def request(*lengths: int, outputs: tuple[str, ...] | None = None, tokens: str = "all") -> Request:
    encodings: list[Any] = [Encoding(length) for length in lengths]
    return Request(HeadRequest(encodings, list, outputs, tokens), run=None)  # type: ignore[arg-type]


def taken(waiting: RequestQueue) -> list[int]:
    return [part.length for part in waiting.take()]


@pytest.mark.parametrize(
    ("lengths", "budget", "batch"),
    [
        ([9], 4, [0]),  # longer than the budget: alone
        ([10, 10, 10], 30, [0, 1, 2]),
        ([10, 10, 10, 10], 30, [0, 1, 2]),
        ([10, 18], 256, [0, 1]),  # 8 tokens of padding
        ([10, 19], 256, [0]),  # 9: a run of its own is cheaper
        ([19, 10], 256, [0]),
        ([10, 10, 15], 256, [0, 1]),  # 5 for each of two
        ([30, 5, 5, 5, 29], 256, [4, 0]),
        ([40, 5, 6, 7, 8, 9, 10], 256, [0]),  # the others are not merged with it, nor before it
        ([200, 100, 101, 102], 210, [0]),
    ],
)
def test_choose(lengths: list[int], budget: int, batch: list[int]) -> None:
    assert choose(lengths, budget) == batch


def test_choose_drains_anything_oldest_first() -> None:
    random.seed(0)
    for _ in range(200):
        budget = random.choice([1, 40, 256])
        lengths = [random.randint(1, 99) for _ in range(random.randint(1, 40))]
        runs = 0
        while lengths:
            batch = choose(lengths, budget)
            chosen = [lengths[i] for i in batch]
            assert 0 in batch
            assert len(set(batch)) == len(batch)
            assert len(batch) == 1 or len(batch) * max(chosen) <= budget
            for before in range(1, len(batch)):
                assert before * (chosen[before] - chosen[before - 1]) <= 8
            lengths = [length for i, length in enumerate(lengths) if i not in batch]
            runs += 1
            assert runs <= 40


def test_parts_of_requests_are_mixed() -> None:
    waiting = RequestQueue(10, 40)
    for lengths in ([10, 30, 11], [12], [31]):
        waiting.add(request(*lengths))
    assert taken(waiting) == [10, 11, 12]
    assert taken(waiting) == [30]
    assert taken(waiting) == [31]


def test_other_outputs_are_another_batch() -> None:
    waiting = RequestQueue(10, 100)
    for one in (
        request(5, outputs=("a",)),
        request(6),
        request(7, outputs=("a",), tokens="first"),
        request(8, outputs=("a",)),
        request(),
        request(9),
    ):
        waiting.add(one)
    assert [taken(waiting) for _ in range(4)] == [[5, 8], [6, 9], [7], [0]]


def test_full_and_room_again() -> None:
    waiting = RequestQueue(2, 100)
    first = request(5, 50)
    waiting.add(first)
    waiting.add(request(6))
    with pytest.raises(BusyError, match=r"2 requests are waiting.*max_waiting"):
        waiting.add(request(7))
    assert taken(waiting) == [5, 6]  # the first has begun, and waits no longer
    waiting.add(request(7))
    waiting.add(request(8))
    with pytest.raises(BusyError):
        waiting.add(request(9))
    waiting.add(request(9), bounded=False)
    waiter = threading.Thread(target=waiting.wait_for_room)
    waiter.start()
    assert waiter.is_alive()
    assert taken(waiting) == [50]
    assert waiter.is_alive()
    assert taken(waiting) == [7, 8, 9]
    waiter.join(10)
    assert not waiter.is_alive()


def test_cancelled_requests_make_room_and_are_not_given_out() -> None:
    waiting = RequestQueue(2, 100)
    kept, dropped = request(5), request(5, 6)
    waiting.add(dropped)
    waiting.add(kept)
    assert dropped.future.cancel()
    waiting.add(request(7))
    with pytest.raises(BusyError):
        waiting.add(request(8))
    assert taken(waiting) == [5, 7]
    assert not kept.future.cancel()  # it has started
    waiting.close()
    assert waiting.take() == []


def test_a_request_that_is_cancelled_while_it_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cancelling thread has no lock yet to take the request out."""
    waiting = RequestQueue(2, 100)
    dropped = request(5, 6)
    waiting.add(dropped)
    monkeypatch.setattr(dropped.future, "_done_callbacks", [])
    assert dropped.future.cancel()
    waiting.add(request(7))
    assert taken(waiting) == [7]
    waiting._cancelled(dropped, dropped.future)  # late
    waiting.add(request(8))
    waiting.add(request(9))
    with pytest.raises(BusyError):
        waiting.add(request(10))


def test_a_failed_request_takes_its_other_parts_along() -> None:
    waiting = RequestQueue(10, 40)
    one = request(10, 30, 35)
    waiting.add(one)
    waiting.add(request(11))
    (first, _), second = waiting.take(), waiting.take()[0]
    assert second.request is one
    waiting.fail(one, ValueError("the first"))
    waiting.fail(one, ValueError("the second"))  # from another worker
    assert not waiting.arrived(first, {})
    with pytest.raises(ValueError, match="the first"):
        one.future.result(0)
    waiting.close()
    assert waiting.take() == []


def test_closed() -> None:
    waiting = RequestQueue(10, 40)
    one, other = request(5), request(50)
    waiting.add(one)
    waiting.add(other)
    waiting.close()
    assert waiting.closed
    with pytest.raises(BertrtError, match=r"closed.*rt.stream\(\)"):
        waiting.add(request(6))
    assert taken(waiting) == [5]
    waiting.close(cancel=True)
    assert other.future.cancelled()
    assert not one.future.cancelled()
    assert waiting.take() == []


def test_workers_wait_for_work() -> None:
    waiting = RequestQueue(10, 40)
    batches: list[list[int]] = []
    worker = threading.Thread(target=lambda: batches.append(taken(waiting)))
    worker.start()
    waiting.add(request(5))
    worker.join(10)
    assert batches == [[5]]
