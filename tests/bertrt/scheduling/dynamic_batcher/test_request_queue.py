"""The request queue: each batch holds the oldest request and others of similar length."""

import random
import threading
from typing import Any

import pytest

from bertrt.errors import BertrtError, BusyError
from bertrt.heads.request import HeadRequest
from bertrt.scheduling.request_queue import QueuedRequest, RequestQueue, choose_batch


class Encoding:
    """An encoding with a given number of ids."""

    def __init__(self, length: int) -> None:
        self.ids = range(length)


def request(
    *lengths: int, outputs: tuple[str, ...] | None = None, tokens: str = "all"
) -> QueuedRequest:
    encodings: list[Any] = [Encoding(length) for length in lengths]
    return QueuedRequest(HeadRequest(encodings, list, outputs, tokens), run_batch=None)  # type: ignore[arg-type]


def take(queue: RequestQueue) -> list[int]:
    return [part.length for part in queue.take()]


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
    assert choose_batch(lengths, budget) == batch


def test_choose_drains_anything_oldest_first() -> None:
    random.seed(0)
    for _ in range(200):
        budget = random.choice([1, 40, 256])
        lengths = [random.randint(1, 99) for _ in range(random.randint(1, 40))]
        runs = 0
        while lengths:
            batch = choose_batch(lengths, budget)
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
    queue = RequestQueue(10, 40)
    for lengths in ([10, 30, 11], [12], [31]):
        queue.add(request(*lengths))
    assert take(queue) == [10, 11, 12]
    assert take(queue) == [30]
    assert take(queue) == [31]


def test_other_outputs_are_another_batch() -> None:
    queue = RequestQueue(10, 100)
    for one in (
        request(5, outputs=("a",)),
        request(6),
        request(7, outputs=("a",), tokens="first"),
        request(8, outputs=("a",)),
        request(),
        request(9),
    ):
        queue.add(one)
    assert [take(queue) for _ in range(4)] == [[5, 8], [6, 9], [7], [0]]


def test_full_and_room_again() -> None:
    queue = RequestQueue(2, 100)
    first = request(5, 50)
    queue.add(first)
    queue.add(request(6))
    with pytest.raises(BusyError, match=r"2 requests are waiting.*max_waiting"):
        queue.add(request(7))
    assert take(queue) == [5, 6]  # the first has begun, and waits no longer
    queue.add(request(7))
    queue.add(request(8))
    with pytest.raises(BusyError):
        queue.add(request(9))
    queue.add(request(9), bounded=False)
    waiter = threading.Thread(target=queue.wait_for_room)
    waiter.start()
    assert waiter.is_alive()
    assert take(queue) == [50]
    assert waiter.is_alive()
    assert take(queue) == [7, 8, 9]
    waiter.join(10)
    assert not waiter.is_alive()


def test_cancelled_requests_make_room_and_are_not_given_out() -> None:
    queue = RequestQueue(2, 100)
    kept, dropped = request(5), request(5, 6)
    queue.add(dropped)
    queue.add(kept)
    assert dropped.future.cancel()
    queue.add(request(7))
    with pytest.raises(BusyError):
        queue.add(request(8))
    assert take(queue) == [5, 7]
    assert not kept.future.cancel()  # it has started
    queue.close()
    assert queue.take() == []


def test_a_request_that_is_cancelled_while_it_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cancelling thread has no lock yet to take the request out."""
    queue = RequestQueue(2, 100)
    dropped = request(5, 6)
    queue.add(dropped)
    monkeypatch.setattr(dropped.future, "_done_callbacks", [])
    assert dropped.future.cancel()
    queue.add(request(7))
    assert take(queue) == [7]
    queue._on_done(dropped, dropped.future)  # late
    queue.add(request(8))
    queue.add(request(9))
    with pytest.raises(BusyError):
        queue.add(request(10))


def test_a_failed_request_takes_its_other_parts_along() -> None:
    queue = RequestQueue(10, 40)
    one = request(10, 30, 35)
    queue.add(one)
    queue.add(request(11))
    (first, _), second = queue.take(), queue.take()[0]
    assert second.request is one
    queue.fail(one, ValueError("the first"))
    queue.fail(one, ValueError("the second"))  # from another worker
    assert not queue.add_outputs(first, {})
    with pytest.raises(ValueError, match="the first"):
        one.future.result(0)
    queue.close()
    assert queue.take() == []


def test_closed() -> None:
    queue = RequestQueue(10, 40)
    one, other = request(5), request(50)
    queue.add(one)
    queue.add(other)
    queue.close()
    assert queue.closed
    with pytest.raises(BertrtError, match=r"closed.*rt.batcher\(\)"):
        queue.add(request(6))
    assert take(queue) == [5]
    queue.close(cancel=True)
    assert other.future.cancelled()
    assert not one.future.cancelled()
    assert queue.take() == []


def test_workers_wait_for_work() -> None:
    queue = RequestQueue(10, 40)
    batches: list[list[int]] = []
    worker = threading.Thread(target=lambda: batches.append(take(queue)))
    worker.start()
    queue.add(request(5))
    worker.join(10)
    assert batches == [[5]]
