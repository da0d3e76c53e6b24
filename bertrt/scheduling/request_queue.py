"""What waits for a stream's workers, and which of it goes into the next run."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Any

from bertrt.errors import BertrtError, BusyError
from bertrt.heads.base import Answer, HeadRequest, SampleOutputs

__all__ = ["Part", "Request", "RequestQueue", "choose"]

# A batch is chosen among this many of the oldest. More would hardly find better company.
_LOOK_AHEAD = 256
# About what a run costs beside its tokens, in tokens: 25 where arithmetic is fast, 5 where it is
# slow. Where this is too small by half, nothing is lost; where it is too large, padding is.
_PADDING = 8


def choose(lengths: Sequence[int], budget: int) -> list[int]:
    """Which rows go into the next run: the oldest, and those that go well with it.

    In the order of their lengths, a row joins those before it if the batch stays within the
    budget and what it adds to their padding costs no more than a run of its own. When few wait,
    their lengths are unlike: merging them all would take longer than one run for each.

    Args:
        lengths: each waiting row's length in tokens, the oldest first; at least one.
        budget: the most padded tokens (rows × longest row) of a batch; a longer row is a batch
            of its own.

    Returns indices into `lengths`, 0 among them, so that none waits for ever.
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


class Request:
    """One input on its way to its answer, and the Future that will hold it."""

    def __init__(self, asked: HeadRequest, run: Callable[..., Sequence[SampleOutputs]]) -> None:
        """Args:
        asked: what the graph is to compute, and how that becomes the answer.
        run: runs encodings as one batch. A request brings it along so that an idle worker
            holds no runtime, which can then be freed.
        """
        self.asked = asked
        self.run = run
        self.future: Future[Answer] = Future()
        self.started = False
        self.failed = False
        encodings = asked.encodings
        # An input that asks for no rows is a part all the same: its turn has to come.
        self.parts = [
            Part(self, place, len(encodings[place].ids) if encodings else 0)
            for place in range(max(1, len(encodings)))
        ]
        self.rows: list[Any] = [None] * len(encodings)
        self.missing = len(encodings)

    def finish(self) -> None:
        """Make the answer of the rows, and hand it over; an error is this request's alone."""
        # Rows are parts of whole batches' outputs, and the Future's owner may keep this for long.
        rows, self.rows = self.rows, []
        try:
            answer = self.asked.finish(rows)
        except BaseException as error:  # the tokenizer's panics are no Exception
            self.future.set_exception(error)
        else:
            self.future.set_result(answer)


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """One of a request's encodings: its place among them, and its length in tokens."""

    request: Request
    place: int
    length: int


class RequestQueue:
    """The queue between those who ask and the workers. Every method is safe from many threads."""

    def __init__(self, most: int, budget: int) -> None:
        """Hold at most so many requests, and give out batches of so many padded tokens."""
        self.most = most
        self._budget = budget
        self._closed = False
        self._requests = 0
        self._parts: OrderedDict[Part, None] = OrderedDict()
        # Reentrant: the garbage collector may close a queue whose lock this thread holds.
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)

    @property
    def closed(self) -> bool:
        """Whether requests are refused."""
        return self._closed

    def add(self, request: Request, *, bounded: bool = True) -> None:
        """Put a request at the end.

        Raises BertrtError when the queue is closed, and BusyError when it is full, unless it is
        not to be `bounded`.
        """
        with self._lock:
            if self._closed:
                raise BertrtError("this stream is closed: open another with rt.stream()")
            if bounded and self._requests >= self.most:
                raise BusyError(
                    f"{self._requests} requests are waiting, as many as this stream holds: ask "
                    "again later, pass wait=True, or open it with a larger max_waiting"
                )
            self._requests += 1
            self._parts.update(dict.fromkeys(request.parts))
            self._work.notify()
        # Only now, since a callback may be called at once.
        request.future.add_done_callback(lambda future: self._cancelled(request, future))

    def wait_for_room(self) -> None:
        """Return when no more requests wait than the queue is to hold, or it is closed."""
        with self._lock:
            self._room.wait_for(lambda: self._requests <= self.most or self._closed)

    def take(self) -> list[Part]:
        """The next batch, as soon as there is one; an empty list when there will be none.

        The parts of a batch ask for the same outputs. One that asks for none comes alone.
        """
        with self._lock:
            while True:
                while not self._parts:
                    if self._closed:
                        return []
                    self._work.wait()
                batch = self._next()
                for request in dict.fromkeys(part.request for part in batch):
                    self._start(request)
                batch = [part for part in batch if part.request.started]
                for part in batch:
                    self._parts.pop(part)
                if batch:
                    return batch

    def arrived(self, part: Part, row: SampleOutputs) -> bool:
        """Keep a part's row; whether all of its request's are there now."""
        request = part.request
        with self._lock:
            request.rows[part.place] = row
            request.missing -= 1
            return request.missing == 0

    def fail(self, request: Request, error: BaseException) -> None:
        """End a request that has started with an error, unless it has ended so already."""
        with self._lock:
            first, request.failed = not request.failed, True
            self._forget(request)
        if first:
            request.future.set_exception(error)

    def close(self, *, cancel: bool = False) -> None:
        """Refuse further requests; those that wait are still given out, or else cancelled."""
        with self._lock:
            self._closed = True
            self._work.notify_all()
            self._room.notify_all()
            waiting = dict.fromkeys(part.request for part in self._parts) if cancel else {}
        for request in waiting:
            request.future.cancel()

    def _next(self) -> list[Part]:
        """The parts to run next, cancelled ones perhaps among them."""
        parts = list(islice(self._parts, _LOOK_AHEAD))
        asked = parts[0].request.asked
        if not asked.encodings:
            return parts[:1]
        alike = [
            part
            for part in parts
            if part.request.asked.encodings
            and part.request.asked.outputs == asked.outputs
            and part.request.asked.tokens == asked.tokens
        ]
        return [alike[i] for i in choose([part.length for part in alike], self._budget)]

    def _start(self, request: Request) -> None:
        """Start a request, from where it cannot be cancelled, unless it was cancelled before."""
        if request.started:
            return
        request.started = request.future.set_running_or_notify_cancel()
        if not request.started:
            self._forget(request)
        self._leave()

    def _cancelled(self, request: Request, future: Future[Answer]) -> None:
        """Make room at once when a request that has not started is cancelled."""
        with self._lock:
            if future.cancelled() and self._forget(request):
                self._leave()

    def _forget(self, request: Request) -> bool:
        """Take a request's parts out; whether there were any."""
        there = [self._parts.pop(part, self) is None for part in request.parts]
        return any(there)

    def _leave(self) -> None:
        """A request waits no longer."""
        self._requests -= 1
        self._room.notify_all()
