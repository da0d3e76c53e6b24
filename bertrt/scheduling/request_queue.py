"""The queue between callers and the batcher's workers, and the choice of the next batch."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Any

from bertrt.errors import BertrtError, BusyError
from bertrt.heads.request import Answer, HeadRequest, SampleOutputs

__all__ = ["QueuedRequest", "RequestPart", "RequestQueue", "choose_batch"]

# A batch is chosen among this many of the oldest parts. More would hardly match better.
_LOOK_AHEAD = 256
# About what a run costs beside its tokens, in tokens: 25 where arithmetic is fast, 5 where it is
# slow. A value too small by half costs nothing; one too large costs padding.
_PADDING = 8


def choose_batch(lengths: Sequence[int], budget: int) -> list[int]:
    """Choose the rows of the next run: the oldest, and those of similar length.

    In the order of their lengths, a row joins those before it if the batch stays within the
    budget and the padding that it adds costs no more than a run of its own. When few rows wait,
    their lengths differ much: merging them all would take longer than one run for each.

    Args:
        lengths: each waiting row's length in tokens, the oldest first; at least one.
        budget: the most padded tokens (rows x longest row) of a batch; a longer row is a batch
            of its own.

    Returns indices into `lengths`. 0 is always among them, so no row waits forever.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[index]
        if batch:
            padding = len(batch) * (length - lengths[batch[-1]])
            if padding > _PADDING or (len(batch) + 1) * length > budget:
                if 0 in batch:
                    break
                batch = []
        batch.append(index)
    return batch


class QueuedRequest:
    """A request in the queue, the Future of its answer, and the outputs that have arrived."""

    def __init__(
        self, request: HeadRequest, run_batch: Callable[..., Sequence[SampleOutputs]]
    ) -> None:
        """Queue a request.

        Args:
            request: what to run, and how that becomes the answer.
            run_batch: runs encodings as one batch. It comes with each request so that an idle
                worker holds no runtime, which can then be freed.
        """
        self.request = request
        self.run_batch = run_batch
        self.future: Future[Answer] = Future()
        self.started = False
        self.failed = False
        encodings = request.encodings
        # A request without encodings has one empty part, so that its turn comes too.
        self.parts = [
            RequestPart(self, index, len(encodings[index].ids) if encodings else 0)
            for index in range(max(1, len(encodings)))
        ]
        self.outputs: list[Any] = [None] * len(encodings)
        self.missing = len(encodings)

    def finish(self) -> None:
        """Make the answer and set the Future; an exception affects this request only."""
        # Outputs are views of whole batches, and the Future's owner may keep it for long.
        outputs, self.outputs = self.outputs, []
        try:
            answer = self.request.finish(outputs)
        except BaseException as error:  # a panic of the tokenizer is not an Exception
            self.future.set_exception(error)
        else:
            self.future.set_result(answer)


@dataclass(frozen=True, eq=False, slots=True)
class RequestPart:
    """One encoding of a request: its index among them, and its length in tokens."""

    request: QueuedRequest
    index: int
    length: int


class RequestQueue:
    """A bounded queue of requests that gives out batches. Thread-safe."""

    def __init__(self, max_waiting: int, max_batch_tokens: int) -> None:
        """Hold at most `max_waiting` requests; give out batches of so many padded tokens."""
        self.max_waiting = max_waiting
        self._max_batch_tokens = max_batch_tokens
        self._closed = False
        self._waiting = 0
        self._parts: OrderedDict[RequestPart, None] = OrderedDict()
        # Reentrant: the garbage collector may close a queue while this thread holds its lock.
        self._lock = threading.RLock()
        self._has_work = threading.Condition(self._lock)
        self._has_room = threading.Condition(self._lock)

    @property
    def closed(self) -> bool:
        """Whether requests are refused."""
        return self._closed

    def add(self, request: QueuedRequest, *, bounded: bool = True) -> None:
        """Append a request.

        Raises BertrtError when the queue is closed, and BusyError when it is full and `bounded`.
        """
        with self._lock:
            if self._closed:
                raise BertrtError("this batcher is closed: open another with rt.batcher()")
            if bounded and self._waiting >= self.max_waiting:
                raise BusyError(
                    f"{self._waiting} requests are waiting, as many as this batcher holds: ask "
                    "again later, pass wait=True, or open it with a larger max_waiting"
                )
            self._waiting += 1
            self._parts.update(dict.fromkeys(request.parts))
            self._has_work.notify()
        # After the lock is released, since a callback may be called at once.
        request.future.add_done_callback(lambda future: self._on_done(request, future))

    def wait_for_room(self) -> None:
        """Return when no more than `max_waiting` requests wait, or the queue is closed."""
        with self._lock:
            self._has_room.wait_for(lambda: self._waiting <= self.max_waiting or self._closed)

    def take(self) -> list[RequestPart]:
        """Return the next batch as soon as there is one; an empty list after the last one.

        All parts of a batch need the same outputs. A part without an encoding comes alone.
        """
        with self._lock:
            while True:
                while not self._parts:
                    if self._closed:
                        return []
                    self._has_work.wait()
                batch = self._next_batch()
                for request in dict.fromkeys(part.request for part in batch):
                    self._start(request)
                batch = [part for part in batch if part.request.started]
                for part in batch:
                    self._parts.pop(part)
                if batch:
                    return batch

    def add_outputs(self, part: RequestPart, outputs: SampleOutputs) -> bool:
        """Store a part's outputs; return whether its request is complete now."""
        request = part.request
        with self._lock:
            request.outputs[part.index] = outputs
            request.missing -= 1
            return request.missing == 0

    def fail(self, request: QueuedRequest, error: BaseException) -> None:
        """End a started request with an error, unless it has failed already."""
        with self._lock:
            first, request.failed = not request.failed, True
            self._remove_parts(request)
        if first:
            request.future.set_exception(error)

    def close(self, *, cancel: bool = False) -> None:
        """Refuse further requests; those that wait are still given out, or cancelled."""
        with self._lock:
            self._closed = True
            self._has_work.notify_all()
            self._has_room.notify_all()
            waiting = dict.fromkeys(part.request for part in self._parts) if cancel else {}
        for request in waiting:
            request.future.cancel()

    def _next_batch(self) -> list[RequestPart]:
        """Return the parts to run next; some may belong to cancelled requests."""
        parts = list(islice(self._parts, _LOOK_AHEAD))
        oldest = parts[0].request.request
        if not oldest.encodings:
            return parts[:1]
        compatible = [part for part in parts if _same_outputs(part.request.request, oldest)]
        lengths = [part.length for part in compatible]
        return [compatible[i] for i in choose_batch(lengths, self._max_batch_tokens)]

    def _start(self, request: QueuedRequest) -> None:
        """Start a request, unless it was cancelled; it cannot be cancelled after that."""
        if request.started:
            return
        request.started = request.future.set_running_or_notify_cancel()
        if not request.started:
            self._remove_parts(request)
        self._leave()

    def _on_done(self, request: QueuedRequest, future: Future[Answer]) -> None:
        """Make room at once when a request is cancelled before it starts."""
        with self._lock:
            if future.cancelled() and self._remove_parts(request):
                self._leave()

    def _remove_parts(self, request: QueuedRequest) -> bool:
        """Remove a request's parts; return whether there were any."""
        removed = [self._parts.pop(part, self) is None for part in request.parts]
        return any(removed)

    def _leave(self) -> None:
        """Count one waiting request less."""
        self._waiting -= 1
        self._has_room.notify_all()


def _same_outputs(request: HeadRequest, other: HeadRequest) -> bool:
    """Whether both have encodings and need the same outputs of the graph."""
    return (
        bool(request.encodings)
        and request.outputs == other.outputs
        and request.tokens == other.tokens
    )
