"""The request queue: each batch has the oldest request and others of similar length."""

import random
import threading
from typing import Any

import pytest

from bertrt.errors import BertrtError, BusyError
from bertrt.heads.request import HeadRequest
from bertrt.scheduling.request_queue import QueuedRequest, RequestQueue, choose_batch


class FakeEncoding:
    """An encoding with this number of ids."""

    def __init__(self, length: int) -> None:
        self.ids = range(length)


def make_request(
    *lengths: int, outputs: tuple[str, ...] | None = None, tokens: str = "all"
) -> QueuedRequest:
    encodings: list[Any] = [FakeEncoding(length) for length in lengths]
    return QueuedRequest(HeadRequest(encodings, list, outputs, tokens), run_batch=None)  # type: ignore[arg-type]


def take_lengths(queue: RequestQueue) -> list[int]:
    return [part.length for part in queue.take()]


@pytest.mark.parametrize(
    ("lengths", "budget", "batch"),
    [
        ([9], 4, [0]),  # longer than the budget: alone
        ([10, 10, 10], 30, [0, 1, 2]),
        ([10, 10, 10, 10], 30, [0, 1, 2]),
        ([10, 18], 256, [0, 1]),  # 8 tokens of padding
        ([10, 19], 256, [0]),  # 9: a second run is cheaper
        ([19, 10], 256, [0]),
        ([10, 10, 15], 256, [0, 1]),  # 5 for each of two
        ([30, 5, 5, 5, 29], 256, [4, 0]),
        ([40, 5, 6, 7, 8, 9, 10], 256, [0]),  # alone, because it is the oldest
        ([200, 100, 101, 102], 210, [0]),
    ],
)
def test_choose_batch(lengths: list[int], budget: int, batch: list[int]) -> None:
    assert choose_batch(lengths, budget) == batch


def test_batches_drain_any_queue_oldest_first() -> None:
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


def test_a_batch_may_have_parts_of_several_requests() -> None:
    queue = RequestQueue(10, 40)
    for lengths in ([10, 30, 11], [12], [31]):
        queue.add(make_request(*lengths))
    assert take_lengths(queue) == [10, 11, 12]
    assert take_lengths(queue) == [30]
    assert take_lengths(queue) == [31]


def test_requests_for_other_outputs_are_in_another_batch() -> None:
    queue = RequestQueue(10, 100)
    for request in (
        make_request(5, outputs=("a",)),
        make_request(6),
        make_request(7, outputs=("a",), tokens="first"),
        make_request(8, outputs=("a",)),
        make_request(),
        make_request(9),
    ):
        queue.add(request)
    assert [take_lengths(queue) for _ in range(4)] == [[5, 8], [6, 9], [7], [0]]


def test_a_full_queue_refuses_until_there_is_room() -> None:
    queue = RequestQueue(2, 100)
    first = make_request(5, 50)
    queue.add(first)
    queue.add(make_request(6))
    with pytest.raises(BusyError, match=r"2 requests are waiting.*max_waiting"):
        queue.add(make_request(7))
    assert take_lengths(queue) == [5, 6]  # the first has started, so it does not count as waiting
    queue.add(make_request(7))
    queue.add(make_request(8))
    with pytest.raises(BusyError):
        queue.add(make_request(9))
    queue.add(make_request(9), bounded=False)
    waiter = threading.Thread(target=queue.wait_for_room)
    waiter.start()
    assert waiter.is_alive()
    assert take_lengths(queue) == [50]
    assert waiter.is_alive()
    assert take_lengths(queue) == [7, 8, 9]
    waiter.join(10)
    assert not waiter.is_alive()


def test_cancelled_requests_make_room_and_do_not_run() -> None:
    queue = RequestQueue(2, 100)
    kept, dropped = make_request(5), make_request(5, 6)
    queue.add(dropped)
    queue.add(kept)
    assert dropped.future.cancel()
    queue.add(make_request(7))
    with pytest.raises(BusyError):
        queue.add(make_request(8))
    assert take_lengths(queue) == [5, 7]
    assert not kept.future.cancel()  # it has started
    queue.close()
    assert queue.take() == []


def test_a_request_may_be_cancelled_while_it_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cancelling thread does not have the lock yet, so the request is still in the queue."""
    queue = RequestQueue(2, 100)
    dropped = make_request(5, 6)
    queue.add(dropped)
    monkeypatch.setattr(dropped.future, "_done_callbacks", [])
    assert dropped.future.cancel()
    queue.add(make_request(7))
    assert take_lengths(queue) == [7]
    queue._on_done(dropped, dropped.future)  # the callback comes late
    queue.add(make_request(8))
    queue.add(make_request(9))
    with pytest.raises(BusyError):
        queue.add(make_request(10))


def test_a_failed_request_drops_its_other_parts() -> None:
    queue = RequestQueue(10, 40)
    failing = make_request(10, 30, 35)
    queue.add(failing)
    queue.add(make_request(11))
    (first, _), second = queue.take(), queue.take()[0]
    assert second.request is failing
    queue.fail(failing, ValueError("the first"))
    queue.fail(failing, ValueError("the second"))  # from another worker
    assert not queue.add_outputs(first, {})
    with pytest.raises(ValueError, match="the first"):
        failing.future.result(0)
    queue.close()
    assert queue.take() == []


def test_a_closed_queue_gives_out_or_cancels_what_waits() -> None:
    queue = RequestQueue(10, 40)
    first, second = make_request(5), make_request(50)
    queue.add(first)
    queue.add(second)
    queue.close()
    assert queue.closed
    with pytest.raises(BertrtError, match=r"closed.*rt.batcher\(\)"):
        queue.add(make_request(6))
    assert take_lengths(queue) == [5]
    queue.close(cancel=True)
    assert second.future.cancelled()
    assert not first.future.cancelled()
    assert queue.take() == []


def test_take_waits_for_a_request() -> None:
    queue = RequestQueue(10, 40)
    batches: list[list[int]] = []
    worker = threading.Thread(target=lambda: batches.append(take_lengths(queue)))
    worker.start()
    queue.add(make_request(5))
    worker.join(10)
    assert batches == [[5]]
