"""The queue between callers and the batcher's workers: who may enter, what runs next, who leaves.

A request is accepted before it is encoded, when only the number of its inputs is known, so that
what waits to be encoded is bounded too, and a full queue refuses at once.
"""

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any
from weakref import ref

from bertrt.errors import BertrtError, DeadlineError
from bertrt.heads.request import Answer, SampleOutputs
from bertrt.scheduling.admission import Admission
from bertrt.scheduling.batcher_load import BatcherLoad, Speed
from bertrt.scheduling.queued_request import QueuedRequest, RequestPart
from bertrt.scheduling.turns import Turns

__all__ = ["BATCHES", "GENERATION", "Observer", "RequestQueue"]

_log = logging.getLogger(__name__)

# Called after each batch with its texts, its tokens, those with padding, and its seconds.
Observer = Callable[[int, int, int, float], None]

# The lanes, whose workers do not wait for each other: inputs that run in batches, and those that
# run the graph themselves, many times.
BATCHES, GENERATION = 0, 1


class _Lane:
    def __init__(self, lock: Any, max_batch_tokens: int, workers: int) -> None:
        self.turns = Turns(max_batch_tokens)
        self.has_work = threading.Condition(lock)
        self.speed = Speed(workers)


class RequestQueue:
    """A bounded queue of requests that gives out batches. Thread-safe."""

    def __init__(
        self, max_waiting: int, max_waiting_tokens: int, max_batch_tokens: int, workers: int = 1
    ) -> None:
        """Bound what waits, and give out batches.

        Args:
            max_waiting: the most texts that wait.
            max_waiting_tokens: the most tokens that wait.
            max_batch_tokens: the most padded tokens of a batch.
            workers: how many threads take batches.
        """
        self.observe: Observer | None = None
        self._closed = False
        self._cause_of_death: BaseException | None = None
        self._running = 0
        self._next_deadline = float("inf")
        self._admission = Admission(max_waiting, max_waiting_tokens)
        # Accepted, and not encoded yet.
        self._encoding: dict[QueuedRequest, None] = {}
        # Reentrant: the garbage collector may close a queue while this thread holds its lock.
        self._lock = threading.RLock()
        self._has_room = threading.Condition(self._lock)
        self._lanes = [
            _Lane(self._lock, max_batch_tokens, workers),
            _Lane(self._lock, max_batch_tokens, 1),
        ]

    @property
    def closed(self) -> bool:
        """Whether requests are refused."""
        return self._closed

    def load(self, *, alive: bool) -> BatcherLoad:
        """Return what waits and runs; `alive` says whether all threads live."""
        with self._lock:
            return BatcherLoad(
                self._admission.texts,
                self._admission.tokens,
                self._running,
                self._tokens_per_second,
                alive and self._cause_of_death is None,
            )

    def accept(self, request: QueuedRequest) -> None:
        """Accept a request that is still to be encoded; a text for each input waits from now on.

        Raises BusyError or InputError for one that does not fit, and BertrtError when the queue
        is closed or a worker has died.
        """
        with self._lock:
            if self._closed:
                raise BertrtError("this batcher is closed: open another with rt.batcher()")
            self._check_alive()
            if request.bounded:
                self._admission.check(request.size, 0, self._tokens_per_second)
            self._admission.enter(request.size, 0)
            self._encoding[request] = None
            if request.deadline is not None:
                self._next_deadline = min(self._next_deadline, request.deadline)
        # After the lock is released, since a callback may be called at once. Weak, since a request
        # has its Future.
        weak = ref(request)
        request.future.add_done_callback(lambda future: self._on_done(weak(), future))

    def add(self, request: QueuedRequest) -> None:
        """Append an accepted request that is encoded, unless it has been dropped since.

        Raises BusyError or InputError if its texts or tokens do not fit; the caller drops it then.
        """
        with self._lock:
            if not self._stop_encoding(request):
                return
            texts, tokens = len(request.waiting), request.tokens
            if request.bounded:
                self._admission.check(texts, tokens, self._tokens_per_second)
            if texts:
                self._admission.enter(texts, tokens)
                lane = self._lane(request)
                lane.turns.add(request)
                lane.has_work.notify(texts)
                return
            request.ended = True
        # No input, so nothing is to run.
        if request.future.set_running_or_notify_cancel():
            request.finish()

    def drop(self, request: QueuedRequest) -> None:
        """Forget an accepted request that the caller could not encode or add."""
        with self._lock:
            self._remove(request)

    def wait_for_room(self) -> None:
        """Return when no more waits than the queue holds, or it is closed."""
        with self._lock:
            self._has_room.wait_for(
                lambda: (
                    not self._admission.is_full or self._closed or self._cause_of_death is not None
                )
            )

    def take(self, lane: int = BATCHES) -> list[RequestPart]:
        """Return the lane's next batch as soon as there is one; an empty list after the last."""
        line = self._lanes[lane]
        while True:
            self._fail_late()
            with self._lock:
                if line.turns:
                    if batch := self._start(line.turns.take()):
                        return batch
                elif self._cause_of_death is not None or (self._closed and not self._encoding):
                    return []
                else:
                    line.has_work.wait()

    def end_batch(self, batch: Sequence[RequestPart], seconds: float | None) -> None:
        """Count a batch that has run, in so many seconds; None if it failed."""
        tokens = sum(part.length for part in batch)
        with self._lock:
            self._running -= len(batch)
            if seconds is not None:
                self._lane(batch[0].request).speed.add(tokens, seconds)

    def store(self, part: RequestPart, outputs: SampleOutputs) -> list[Any] | None:
        """Store a part's outputs; return those of its input if it is to be answered now."""
        with self._lock:
            return None if part.request.ended else part.request.store(part, outputs)

    def store_answer(self, part: RequestPart, answer: Answer) -> bool:
        """Store an input's answer; return whether the caller is to finish the request now."""
        request = part.request
        with self._lock:
            if request.ended or not request.store_answer(part.input, answer):
                return False
            request.ended = True
            return True

    def fail(self, request: QueuedRequest, error: BaseException) -> None:
        """End a request with an error and drop its other parts, unless it has ended."""
        with self._lock:
            if not self._remove(request):
                return
        _set_exception(request.future, error)

    def fail_late(self, request: QueuedRequest) -> None:
        """Drop a request whose deadline has passed, unless all of it has started."""
        with self._lock:
            has_started = not request.waiting and request not in self._encoding
            if has_started or not self._remove(request):
                return
        _set_exception(
            request.future,
            DeadlineError(
                "the request's deadline passed before all of it had started: allow more time, or "
                "ask for less at a time"
            ),
        )

    def break_down(self, error: BaseException, batch: Iterable[RequestPart] = ()) -> None:
        """Fail everything that waits, and a dying worker's batch; refuse what comes later."""
        # Without the error's own message, which may hold a text.
        where = "".join(traceback.format_tb(error.__traceback__))
        _log.error("a thread of a batcher has died of %s\n%s", type(error).__name__, where)
        with self._lock:
            self._cause_of_death = self._cause_of_death or error
            requests = [*(part.request for part in batch), *self._waiting()]
            self._notify_all()
        for request in requests:
            self.fail(request, _death(error))

    def close(self, *, cancel: bool = False) -> None:
        """Refuse further requests; those that were accepted are still given out, or cancelled."""
        with self._lock:
            self._closed = True
            self._notify_all()
            waiting = self._waiting() if cancel else []
        for request in waiting:
            request.future.cancel()

    def _lane(self, request: QueuedRequest) -> _Lane:
        return self._lanes[GENERATION if request.generates else BATCHES]

    @property
    def _tokens_per_second(self) -> float:
        return sum(lane.speed.tokens_per_second for lane in self._lanes)

    def _check_alive(self) -> None:
        if self._cause_of_death is not None:
            raise _death(self._cause_of_death)

    def _notify_all(self) -> None:
        self._has_room.notify_all()
        for lane in self._lanes:
            lane.has_work.notify_all()

    def _waiting(self) -> list[QueuedRequest]:
        """Return the requests that have not wholly started."""
        return [*self._encoding, *(request for lane in self._lanes for request in lane.turns)]

    def _start(self, batch: Sequence[RequestPart]) -> list[RequestPart]:
        """Count a batch as started; return it without the parts of cancelled requests.

        A request can be cancelled until its last part starts.
        """
        for part in batch:
            self._admission.leave(1, part.length)
        for request in dict.fromkeys(part.request for part in batch):
            request.begin()
            if request.waiting:
                cancelled = request.future.cancelled()
            else:
                cancelled = not request.future.set_running_or_notify_cancel()
            if cancelled:
                self._remove(request)
        started = [part for part in batch if not part.request.ended]
        self._running += len(started)
        self._has_room.notify_all()
        return started

    def _on_done(self, request: QueuedRequest | None, future: Future[Any]) -> None:
        """Make room at once when a request is cancelled."""
        if request is not None and future.cancelled():
            with self._lock:
                self._remove(request)

    def _remove(self, request: QueuedRequest) -> bool:
        """End a request and drop what has not started; return False if it had ended."""
        if request.ended:
            return False
        request.ended = True
        self._stop_encoding(request)
        if self._lane(request).turns.remove(request):
            tokens = sum(part.length for part in request.waiting)
            self._admission.leave(len(request.waiting), tokens)
            self._has_room.notify_all()
        request.waiting.clear()
        return True

    def _stop_encoding(self, request: QueuedRequest) -> bool:
        """Forget that a request is being encoded; return False if it is not."""
        if request not in self._encoding:
            return False
        del self._encoding[request]
        self._admission.leave(request.size, 0)
        if self._closed and not self._encoding:
            self._notify_all()  # workers may end
        self._has_room.notify_all()
        return True

    def _fail_late(self) -> None:
        """Drop every request whose deadline has passed."""
        now = time.monotonic()
        if now < self._next_deadline:
            return
        with self._lock:
            timed = [request for request in self._waiting() if request.deadline is not None]
            late = [request for request in timed if (request.deadline or 0.0) <= now]
            self._next_deadline = min(
                (request.deadline or 0.0 for request in timed if (request.deadline or 0.0) > now),
                default=float("inf"),
            )
        for request in late:
            self.fail_late(request)


def _set_exception(future: Future[Any], error: BaseException) -> None:
    """Set an exception, unless the Future was cancelled."""
    if future.running() or future.set_running_or_notify_cancel():
        future.set_exception(error)


def _death(error: BaseException) -> BertrtError:
    """Return the error for one request: many threads must not raise one object."""
    death = BertrtError(f"a thread of this batcher died of {error!r}: open another batcher")
    death.__cause__ = error
    return death
