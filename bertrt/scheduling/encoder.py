"""The thread that encodes requests of asyncio, so that the event loop does not.

The tokenizer holds the interpreter's lock, about 40 µs for a short text. Requests are encoded in
slices that take turns, and the thread sleeps for a moment after each full slice: without that, a
thread that wants the lock would wait for the interpreter's switch interval, which is 5 ms.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator

from bertrt.heads.request import HeadRequest
from bertrt.scheduling.queued_request import QueuedRequest
from bertrt.scheduling.request_queue import RequestQueue

__all__ = ["Encoder", "encode"]

# The seconds of a slice, and of the sleep after it.
_SLICE, _SLEEP = 0.001, 0.0001


class Encoder:
    """Encodes accepted requests in a thread of its own and adds them to the queue.

    Thread-safe. The thread holds only this object, the queue and the requests.
    """

    def __init__(self, queue: RequestQueue) -> None:
        """Encode for a queue; starts nothing yet."""
        self._queue = queue
        self._jobs: deque[_Job] = deque()
        self._closed = False
        # Reentrant, as the queue's lock is.
        self._has_work = threading.Condition(threading.RLock())

    def submit(self, request: QueuedRequest, inputs: Iterator[HeadRequest]) -> None:
        """Encode an accepted request whose inputs are encoded as they are iterated over.

        An error goes to the request's Future.
        """
        with self._has_work:
            self._jobs.append(_Job(request, inputs))
            self._has_work.notify()

    def close(self) -> None:
        """End the thread when it has encoded what was submitted."""
        with self._has_work:
            self._closed = True
            self._has_work.notify_all()

    def work(self) -> None:
        """Encode until closed: the thread's function."""
        try:
            while (job := self._next()) is not None:
                self._step(job)
                del job  # a thread that waits keeps nothing alive
        except BaseException as error:
            self._queue.break_down(error)

    def _next(self) -> "_Job | None":
        with self._has_work:
            while not self._jobs:
                if self._closed:
                    return None
                self._has_work.wait()
            return self._jobs.popleft()

    def _step(self, job: "_Job") -> None:
        """Encode one slice of a request, unless it has ended: cancelled, late or failed."""
        request = job.request
        if request.ended:
            return
        try:
            if job.encode_slice():
                request.fill(job.done, job.seconds)
                self._queue.add(request)
                return
        except BaseException as error:  # a panic of the tokenizer is not an Exception
            self._queue.fail(request, error)
            return
        with self._has_work:
            self._jobs.append(job)
        time.sleep(_SLEEP)


class _Job:
    """A request that is being encoded."""

    def __init__(self, request: QueuedRequest, inputs: Iterator[HeadRequest]) -> None:
        self.request = request
        self.done: list[HeadRequest] = []
        self.seconds = 0.0
        self._inputs = inputs

    def encode_slice(self) -> bool:
        """Encode inputs for the time of a slice, at least one; return whether all are encoded."""
        start = time.perf_counter()
        end = start + _SLICE
        try:
            for request in self._inputs:
                self.done.append(request)
                if time.perf_counter() >= end:
                    return False
            return True
        finally:
            self.seconds += time.perf_counter() - start


def encode(queue: RequestQueue, request: QueuedRequest, inputs: Iterator[HeadRequest]) -> None:
    """Encode an accepted request in this thread and add it to the queue.

    Raises what encoding or the queue raises; the request is dropped then.
    """
    start = time.perf_counter()
    try:
        encoded = list(inputs)
        request.fill(encoded, time.perf_counter() - start)
        queue.add(request)
    except BaseException:
        queue.drop(request)
        raise
