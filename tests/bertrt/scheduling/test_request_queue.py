"""The request queue: who is admitted, what is given out, and how requests end."""

import threading
import time
from typing import Any

import pytest

from bertrt.errors import BertrtError, BusyError, DeadlineError, InputError
from bertrt.scheduling.batcher_load import BatcherLoad
from bertrt.scheduling.queued_request import QueuedRequest
from bertrt.scheduling.request_queue import BATCHES, GENERATION, RequestQueue


def make_queue(max_waiting: int, max_batch_tokens: int, max_tokens: int = 10**6) -> RequestQueue:
    return RequestQueue(max_waiting, max_tokens, max_batch_tokens)


def add(queue: RequestQueue, request: QueuedRequest) -> QueuedRequest:
    queue.accept(request)
    try:
        queue.add(request)
    except BertrtError:
        queue.drop(request)
        raise
    return request


def take_lengths(queue: RequestQueue, lane: int = BATCHES) -> list[int]:
    return [part.length for part in queue.take(lane)]


def waiting(queue: RequestQueue) -> tuple[int, int]:
    load = queue.load(alive=True)
    return load.waiting_texts, load.waiting_tokens


def test_a_full_queue_refuses_until_there_is_room(fakes: Any) -> None:
    queue = make_queue(3, 100)
    add(queue, fakes.one(5, 50))
    add(queue, fakes.one(6))
    with pytest.raises(BusyError, match=r"3 texts are waiting.*max_waiting"):
        add(queue, fakes.one(7))
    assert take_lengths(queue) == [50]
    add(queue, fakes.one(7))
    with pytest.raises(BusyError):
        add(queue, fakes.one(9))
    add(queue, fakes.accept(fakes.input(9), bounded=False))
    waiter = threading.Thread(target=queue.wait_for_room)
    waiter.start()
    waiter.join(0.02)
    assert waiter.is_alive()
    assert waiting(queue) == (4, 27)
    assert take_lengths(queue) == [5, 6, 7, 9]
    waiter.join(10)
    assert not waiter.is_alive()
    assert waiting(queue) == (0, 0)


def test_many_inputs_are_admitted_whole_or_not_at_all(fakes: Any) -> None:
    queue = make_queue(10, 1000, max_tokens=100)
    add(queue, fakes.many(*[5] * 6))
    with pytest.raises(BusyError, match="6 texts are waiting and the request has 5"):
        add(queue, fakes.many(*[1] * 5))
    with pytest.raises(BusyError, match="30 tokens are waiting and the request has 80"):
        add(queue, fakes.many(40, 40))
    with pytest.raises(InputError, match="has 11 texts, and this batcher holds 10"):
        add(queue, fakes.many(*[1] * 11))
    with pytest.raises(InputError, match="has 101 tokens, and this batcher holds 100"):
        add(queue, fakes.many(101))
    assert waiting(queue) == (6, 30)
    add(queue, fakes.many(35, 35))
    assert waiting(queue) == (8, 100)


def test_what_is_still_to_be_encoded_waits_too(fakes: Any) -> None:
    queue = make_queue(4, 100)
    encoding = fakes.many(5, 6, 7)
    queue.accept(encoding)
    assert waiting(queue) == (3, 0)
    with pytest.raises(BusyError):
        queue.accept(fakes.many(1, 2))
    queue.add(encoding)
    assert waiting(queue) == (3, 18)
    # An input may turn out to be more texts than there is room for.
    windows = fakes.one(1, 2)
    queue.accept(windows)
    with pytest.raises(BusyError, match="3 texts are waiting and the request has 2"):
        queue.add(windows)
    queue.drop(windows)
    assert waiting(queue) == (3, 18)


def test_load_and_speed(fakes: Any) -> None:
    queue = make_queue(10, 20)
    add(queue, fakes.many(10, 10, 10))
    batch = queue.take()
    assert queue.load(alive=True) == BatcherLoad(1, 10, 2, 0.0, True)
    queue.end_batch(batch, 0.5)
    assert queue.load(alive=True) == BatcherLoad(1, 10, 0, 40.0, True)
    queue.end_batch(queue.take(), None)  # it failed, which says nothing of the speed
    assert queue.load(alive=False) == BatcherLoad(0, 0, 0, 40.0, False)


def test_retry_after_is_what_waits_by_the_measured_speed(fakes: Any) -> None:
    queue = make_queue(2, 20)
    add(queue, fakes.many(20, 20))
    queue.end_batch(queue.take(), 2.0)
    add(queue, fakes.one(15))
    with pytest.raises(BusyError) as caught:
        add(queue, fakes.one(1))
    assert caught.value.retry_after == pytest.approx(35 / 10)


def test_generation_has_a_lane_of_its_own(fakes: Any) -> None:
    queue = make_queue(10, 100)
    add(queue, fakes.one(9, runs_itself=True))
    add(queue, fakes.one(5))
    assert take_lengths(queue) == [5]
    assert waiting(queue) == (1, 9)
    assert take_lengths(queue, GENERATION) == [9]
    queue.close()
    assert queue.take() == queue.take(GENERATION) == []


def test_cancelled_requests_make_room_and_do_not_run(fakes: Any) -> None:
    queue = make_queue(3, 100)
    dropped, kept = fakes.one(5, 6), fakes.one(5)
    add(queue, dropped)
    add(queue, kept)
    assert dropped.future.cancel()
    add(queue, fakes.many(7, 8))
    with pytest.raises(BusyError):
        add(queue, fakes.one(8))
    assert take_lengths(queue) == [5, 7, 8]
    assert not kept.future.cancel()  # it has started
    queue.close()
    assert queue.take() == []


def test_cancelling_drops_what_has_not_started(fakes: Any) -> None:
    queue = make_queue(10, 20)
    request = add(queue, fakes.many(10, 10, 10, 10))
    batch = queue.take()
    assert len(batch) == 2
    assert request.future.cancel()
    assert waiting(queue) == (0, 0)
    assert queue.store(batch[0], {}) is None  # nobody asks for it any more
    queue.close()
    assert queue.take() == []


def test_a_request_that_is_being_encoded_can_be_cancelled(fakes: Any) -> None:
    queue = make_queue(2, 20)
    request = fakes.many(10, 10)
    queue.accept(request)
    assert request.future.cancel()
    assert waiting(queue) == (0, 0)
    queue.add(request)  # the encoder comes late
    assert waiting(queue) == (0, 0)
    queue.close()
    assert queue.take() == []


def test_a_request_may_be_cancelled_while_it_is_chosen(
    fakes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cancelling thread does not have the lock yet, so the request is still in the queue."""
    queue = make_queue(2, 8)
    dropped = add(queue, fakes.one(5, 6))
    monkeypatch.setattr(dropped.future, "_done_callbacks", [])
    assert dropped.future.cancel()
    with pytest.raises(BusyError):
        add(queue, fakes.one(7))
    queue.close()
    assert queue.take() == []
    assert waiting(queue) == (0, 0)
    queue._on_done(dropped, dropped.future)  # the callback comes late
    assert waiting(queue) == (0, 0)


def past() -> float:
    return time.monotonic() - 1


def future() -> float:
    return time.monotonic() + 1000


def test_a_late_request_is_dropped(fakes: Any) -> None:
    queue = make_queue(10, 100)
    late, in_time = fakes.many(5, 6, deadline=past()), fakes.many(7, deadline=future())
    add(queue, late)
    add(queue, in_time)
    add(queue, fakes.many(8))
    assert take_lengths(queue) == [7, 8]
    with pytest.raises(DeadlineError, match=r"deadline passed.*allow more time"):
        late.future.result(0)
    assert isinstance(late.future.exception(0), BusyError)
    assert in_time.future.running()


def test_what_runs_at_the_deadline_ends_and_the_rest_is_dropped(fakes: Any) -> None:
    queue = make_queue(10, 20)
    request = add(queue, fakes.many(10, 10, 10, deadline=future()))
    batch = queue.take()
    queue.fail_late(request)  # as a timer does
    with pytest.raises(DeadlineError):
        request.future.result(0)
    assert waiting(queue) == (0, 0)
    assert queue.load(alive=True).running_texts == 2
    queue.end_batch(batch, 1.0)
    assert all(queue.store(part, {}) is None for part in batch)


def test_a_request_that_has_wholly_started_is_never_late(fakes: Any) -> None:
    queue = make_queue(10, 100)
    request = add(queue, fakes.many(10, 10, deadline=future()))
    batch = queue.take()
    queue.fail_late(request)
    queue._next_deadline = past()
    queue._fail_late()
    assert not request.future.done()
    complete = [queue.store(part, {"a": 1}) for part in batch]  # type: ignore[dict-item]
    assert complete == [[{"a": 1}]] * 2
    assert [queue.store_answer(part, "yes") for part in batch] == [False, True]
    request.finish()
    assert request.future.result(0) == ["yes", "yes"]


def test_a_request_that_is_late_while_it_is_encoded_is_dropped(fakes: Any) -> None:
    queue = make_queue(2, 100)
    request = fakes.many(5, 5, deadline=past())
    queue.accept(request)
    other = add(queue, fakes.accept(fakes.input(6), bounded=False))
    assert [part.request for part in queue.take()] == [other]
    assert isinstance(request.future.exception(0), DeadlineError)
    queue.add(request)
    assert waiting(queue) == (0, 0)


def test_a_failed_request_drops_its_other_parts(fakes: Any) -> None:
    queue = make_queue(10, 40)
    failing = fakes.one(35, 30, 10)
    add(queue, failing)
    add(queue, fakes.one(36))
    first, _, second = queue.take()[0], queue.take(), queue.take()[0]
    assert first.request is second.request is failing
    queue.fail(failing, ValueError("the first"))
    queue.fail(failing, ValueError("the second"))  # from another worker
    assert queue.store(first, {}) is None
    assert not queue.store_answer(first, "too late")
    with pytest.raises(ValueError, match="the first"):
        failing.future.result(0)
    queue.close()
    assert queue.take() == []


def test_a_closed_queue_gives_out_or_cancels_what_waits(fakes: Any) -> None:
    queue = make_queue(10, 40)
    first, second, encoding = fakes.one(5), fakes.one(50), fakes.one(6)
    add(queue, first)
    add(queue, second)
    queue.accept(encoding)
    queue.close()
    assert queue.closed
    with pytest.raises(BertrtError, match=r"closed.*rt.batcher\(\)"):
        add(queue, fakes.one(6))
    queue.add(encoding)  # it was accepted before
    assert take_lengths(queue) == [5, 6]
    queue.close(cancel=True)
    assert second.future.cancelled()
    assert not first.future.cancelled()
    assert queue.take() == []


def test_workers_stay_until_what_is_being_encoded_has_come(fakes: Any) -> None:
    queue = make_queue(10, 40)
    request = fakes.one(5)
    queue.accept(request)
    queue.close()
    batches: list[list[int]] = []

    def work() -> None:
        while lengths := take_lengths(queue):
            batches.append(lengths)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(0.02)
    assert worker.is_alive()
    queue.add(request)
    worker.join(10)
    assert batches == [[5]]


def test_workers_end_when_what_is_being_encoded_is_dropped(fakes: Any) -> None:
    queue = make_queue(10, 40)
    request = fakes.one(5)
    queue.accept(request)
    queue.close()
    worker = threading.Thread(target=queue.take)
    worker.start()
    queue.drop(request)
    worker.join(10)
    assert not worker.is_alive()


def test_take_waits_for_a_request(fakes: Any) -> None:
    queue = make_queue(10, 40)
    batches: list[list[int]] = []
    worker = threading.Thread(target=lambda: batches.append(take_lengths(queue)))
    worker.start()
    add(queue, fakes.one(5))
    worker.join(10)
    assert batches == [[5]]


def test_a_dead_worker_fails_what_waits_and_what_comes_later(fakes: Any) -> None:
    queue = make_queue(10, 20)
    running = add(queue, fakes.many(20, 20))
    batch = queue.take()
    others = [add(queue, fakes.one(19)) for _ in range(2)]
    encoding = fakes.one(3)
    queue.accept(encoding)
    error = RuntimeError("broken")
    queue.break_down(error, batch)
    errors: list[Any] = [r.future.exception(0) for r in (running, *others, encoding)]
    assert len({id(copy) for copy in errors}) == 4  # each is raised in another thread
    for copy in errors:
        assert isinstance(copy, BertrtError)
        assert "died of RuntimeError('broken')" in str(copy)
        assert copy.__cause__ is error
    with pytest.raises(BertrtError, match="died of RuntimeError"):
        queue.accept(fakes.one(5))
    queue.wait_for_room()
    assert queue.take() == []
    assert queue.load(alive=True).alive is False


def test_a_request_without_inputs_is_answered_at_once(fakes: Any) -> None:
    queue = make_queue(1, 10)
    add(queue, fakes.one(5))
    assert add(queue, fakes.accept()).future.result(0) == []
