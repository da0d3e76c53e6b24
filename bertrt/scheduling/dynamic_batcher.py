"""Dynamic batching: requests that come at the same time, from threads or asyncio, run together.

A worker takes what waits and runs it as one batch; requests that come meanwhile wait for the next.
So an idle batcher answers at once, no request waits for a timer, and batches grow with the load.

This module is what callers see. `Encoder` encodes, `RequestQueue` says who waits and who is next,
and `batch_worker.work` runs batches; none of them holds the batcher.
"""

import atexit
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from bertrt.checks import check_flag, check_number, check_whole
from bertrt.engines.fork_safe import after_fork_in_child
from bertrt.errors import BusyError, InputError, shorten
from bertrt.heads.calls import BoundCall, Call, CallParser
from bertrt.heads.request import Answer
from bertrt.scheduling.answered import Answered
from bertrt.scheduling.batch_runner import BatchRunner
from bertrt.scheduling.batch_worker import work
from bertrt.scheduling.batcher_load import BatcherLoad
from bertrt.scheduling.encoder import Encoder, encode
from bertrt.scheduling.queued_request import QueuedRequest
from bertrt.scheduling.request_queue import BATCHES, GENERATION, Observer, RequestQueue

__all__ = ["DynamicBatcher"]

# How many kinds of options are kept as they were parsed.
_MOST_PARSED = 64

_LIVE: "weakref.WeakValueDictionary[int, DynamicBatcher]" = weakref.WeakValueDictionary()


class DynamicBatcher:
    """Answers requests and merges those that wait; opened with `Runtime.batcher`.

    `submit_many` and `amany` take a list of inputs, every other method one input, with the options
    of `__call__`, `embed`, `embed_sparse` or `score` of a runtime. The answer is the same as there,
    whatever it was merged with. `amany` encodes its texts in a thread of the batcher; otherwise the
    calling thread encodes them and gets InputError for a bad one. The batcher's own threads run
    the model. Inputs with different options share a batch, unless they need different outputs of
    the graph. Requests take turns, so that a large one does not hold up the others. Text is
    generated for one input at a time, in a thread of its own.

    Thread-safe. A pickled batcher is opened anew, and so is one in a forked child: requests made
    before the fork belong to the parent. At exit, requests that wait are still answered.
    """

    def __init__(
        self,
        calls: CallParser,
        runner: BatchRunner,
        *,
        max_waiting: int,
        max_waiting_tokens: int,
        max_batch_tokens: int,
        workers: int,
    ) -> None:
        """Answer the calls that `calls` parses with `runner`; see `Runtime.batcher`."""
        check_whole("max_waiting", max_waiting, least=1)
        check_whole("max_waiting_tokens", max_waiting_tokens, least=1)
        check_whole("max_batch_tokens", max_batch_tokens, least=1)
        self._calls = calls
        self._runner = runner
        self._max_waiting = max_waiting
        self._max_waiting_tokens = max_waiting_tokens
        self._max_batch_tokens = max_batch_tokens
        self._workers = workers
        self._reset()

    def _reset(self, observe: Observer | None = None) -> None:
        self._lock = threading.Lock()
        # Most requests have the options of earlier ones.
        self._parsed: dict[Hashable, Call] = {}
        self._threads: list[threading.Thread] = []
        self._encoder_thread: threading.Thread | None = None
        self._queue = RequestQueue(
            self._max_waiting, self._max_waiting_tokens, self._max_batch_tokens, self._workers
        )
        self._queue.observe = observe
        self._encoder = Encoder(self._queue)
        # Idle threads hold only these two. When the batcher is freed, they close and the threads
        # end.
        self._finalizer = weakref.finalize(self, _close, self._queue, self._encoder)
        self._finalizer.atexit = False
        _LIVE[id(self)] = self

    def __getstate__(self) -> dict[str, Any]:
        names = (
            "_calls",
            "_runner",
            "_max_waiting",
            "_max_waiting_tokens",
            "_max_batch_tokens",
            "_workers",
        )
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    @property
    def max_waiting(self) -> int:
        """The most texts that may wait."""
        return self._max_waiting

    @property
    def load(self) -> BatcherLoad:
        """What waits and runs now, and whether all threads of the batcher live."""
        with self._lock:
            threads = [*self._threads, *filter(None, [self._encoder_thread])]
        return self._queue.load(alive=all(thread.is_alive() for thread in threads))

    @property
    def observe(self) -> Observer | None:
        """A function to call after each batch, for metrics; None for none.

        A worker calls it with the number of texts, their tokens, their tokens with padding, and
        the seconds that the batch took, before the answers are there. It should be quick. What it
        raises is logged. A pickled batcher has none.
        """
        return self._queue.observe

    @observe.setter
    def observe(self, function: Observer | None) -> None:
        """Set the function."""
        self._queue.observe = function

    def __call__(
        self, *inputs: Any, wait: bool = False, timeout: float | None = None, **options: Any
    ) -> Answer:
        """Return the answer to one input; the calling thread waits for it.

        Args:
            inputs, options: as in `Runtime.__call__`.
            wait: wait for room when the batcher is full; otherwise that is a BusyError.
            timeout: raise BusyError after this many seconds; None waits without a limit.
        """
        return _result(self._send(self._calls.parse(options), inputs, wait), timeout)

    def embed(
        self, text: Any, *, wait: bool = False, timeout: float | None = None, **options: Any
    ) -> Any:
        """Return one text's vector [H] as `Runtime.embed` does; otherwise as a call."""
        return _result(self._send(self._calls.parse_embed(options), (text,), wait), timeout)

    def embed_sparse(
        self, text: Any, *, wait: bool = False, timeout: float | None = None, **options: Any
    ) -> Any:
        """Return one text's vector as `Runtime.embed_sparse` does; otherwise as a call."""
        return _result(self._send(self._calls.parse_embed_sparse(options), (text,), wait), timeout)

    def score(
        self, pair: Any, *, wait: bool = False, timeout: float | None = None, **options: Any
    ) -> Any:
        """Return one pair's score as `Runtime.score` does; otherwise as a call."""
        call = self._calls.parse_score(options, "score")
        return _result(self._send(call, (pair,), wait), timeout)

    def submit(self, *inputs: Any, wait: bool = False, **options: Any) -> "Future[Answer]":
        """Return a Future of the answer to one input; `result(timeout)` waits for it.

        Cancelling the Future drops the request, unless all of it has started. When the batcher is
        full, `wait=True` makes the caller wait for room; otherwise that is a BusyError.
        """
        return self._submit(self._calls.parse(options), inputs, wait)

    def submit_embed(self, text: Any, *, wait: bool = False, **options: Any) -> "Future[Any]":
        """Return a Future of one text's vector; otherwise as `submit`."""
        return self._submit(self._calls.parse_embed(options), (text,), wait)

    def submit_score(self, pair: Any, *, wait: bool = False, **options: Any) -> "Future[Any]":
        """Return a Future of one pair's score; otherwise as `submit`."""
        return self._submit(self._calls.parse_score(options, "score"), (pair,), wait)

    def submit_many(
        self, method: str, inputs: Sequence[Any], *, deadline: float | None = None, **options: Any
    ) -> "Future[Answered]":
        """Return a Future of the answers to a list of inputs, which are one request.

        Args:
            method: "call", "embed", "embed_sparse" or "score": the runtime's method that gives the
                same answers.
            inputs: the inputs, each as that method takes it in a list.
            deadline: the `time.monotonic()` by which all inputs must have started. What has not
                started then is dropped, and the Future raises DeadlineError. What runs, ends.
            options: the method's options.

        The request is accepted whole or not at all. Cancelling the Future drops what has not
        started, unless all has. The calling thread encodes the inputs.

        Raises BusyError if the request does not fit beside what waits, with the seconds after which
        to try again in `retry_after`; InputError if it never will, for a wrong input or option, and
        for an empty list where the runtime refuses it.
        """
        bound, request = self._accept_many(method, inputs, deadline, options)
        encode(self._queue, request, bound.requests(self._runner))
        return request.future

    async def acall(self, *inputs: Any, wait: bool = False, **options: Any) -> Answer:
        """Return the answer to one input, for asyncio; any event loop.

        The text is encoded in the event loop's thread, about 40 µs for a short one. Cancelling the
        task drops the request, unless all of it has started. `wait` is as in a call; for a time
        limit use `asyncio.timeout`.
        """
        return await _awaited(self._send(self._calls.parse(options), inputs, wait))

    async def aembed(self, text: Any, *, wait: bool = False, **options: Any) -> Any:
        """Return one text's vector, for asyncio; otherwise as `acall`."""
        return await _awaited(self._send(self._calls.parse_embed(options), (text,), wait))

    async def aembed_sparse(self, text: Any, *, wait: bool = False, **options: Any) -> Any:
        """Return one text's sparse vector, for asyncio; otherwise as `acall`."""
        return await _awaited(self._send(self._calls.parse_embed_sparse(options), (text,), wait))

    async def ascore(self, pair: Any, *, wait: bool = False, **options: Any) -> Any:
        """Return one pair's score, for asyncio; otherwise as `acall`."""
        call = self._calls.parse_score(options, "score")
        return await _awaited(self._send(call, (pair,), wait))

    async def amany(
        self, method: str, inputs: Sequence[Any], *, deadline: float | None = None, **options: Any
    ) -> Answered:
        """Return the answers to a list of inputs, for asyncio; otherwise as `submit_many`.

        A thread of the batcher encodes the inputs, in slices of about a millisecond that take turns
        with those of other requests, so the event loop goes on. Cancelling the task drops what has
        not started. DeadlineError comes at the deadline, even when every worker is busy.
        """
        import asyncio  # as in _awaited

        bound, request = self._accept_many(method, inputs, deadline, options)
        self._encoder.submit(request, bound.requests(self._runner))
        if deadline is None:
            return await asyncio.wrap_future(request.future)
        timer = asyncio.get_running_loop().call_later(
            max(0.0, deadline - time.monotonic()), self._queue.fail_late, request
        )
        try:
            return await asyncio.wrap_future(request.future)
        finally:
            timer.cancel()

    def close(self, *, cancel: bool = False) -> None:
        """Refuse further requests, and return when all accepted requests are answered.

        Args:
            cancel: cancel requests that have not started instead of answering them.

        Closing twice is not an error. A Future's callback that closes the batcher does not wait.
        """
        _close(self._queue, self._encoder, cancel=cancel)
        with self._lock:
            threads = [*filter(None, [self._encoder_thread]), *self._threads]
        if threading.current_thread() in threads:
            return
        for thread in threads:
            thread.join()

    def warmup(self, shapes: Sequence[tuple[int, int]] = ((1, 8), (1, 32), (1, 128))) -> None:
        """Open the batcher's session and run it at each shape; see `Runtime.warmup`."""
        self._runner.warmup(shapes)

    def __enter__(self) -> "DynamicBatcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<bertrt.DynamicBatcher for {self._calls.head.task} with {self._workers} workers>"

    def _send(self, call: Call, inputs: tuple[Any, ...], wait: bool) -> "Future[Answer]":
        """Queue a request; a caller that waits for its answer anyway may exceed the bound."""
        check_flag("wait", wait)
        bound = BoundCall.read_one(call, *inputs)
        request = self._accept(
            bound, lambda request: bound.answer(request.answers), bounded=not wait
        )
        encode(self._queue, request, bound.requests(self._runner))
        return request.future

    def _submit(self, call: Call, inputs: tuple[Any, ...], wait: bool) -> "Future[Answer]":
        future = self._send(call, inputs, wait)
        if wait:
            self._queue.wait_for_room()
        return future

    def _accept_many(
        self, method: str, inputs: Sequence[Any], deadline: float | None, options: dict[str, Any]
    ) -> tuple[BoundCall, QueuedRequest]:
        """Accept a request of many inputs, which is still to be encoded."""
        if deadline is not None:
            check_number("deadline", deadline, least=0)
        bound = BoundCall.read(self._parse(method, options), _as_list(inputs))
        request = self._accept(
            bound,
            lambda request: request.describe(bound.answer(request.answers)),
            deadline=deadline,
        )
        return bound, request

    def _parse(self, method: str, options: dict[str, Any]) -> Call:
        if method == "call":
            return self._calls.parse(options)
        # With types, since True equals 1.
        key = (method, *((name, type(value), value) for name, value in options.items()))
        try:
            return self._parsed[key]
        except KeyError:
            call = self._calls.parse_method(method, options)
        except TypeError:  # a list among the options
            return self._calls.parse_method(method, options)
        if len(self._parsed) == _MOST_PARSED:
            self._parsed.clear()
        return self._parsed.setdefault(key, call)

    def _accept(
        self, bound: BoundCall, finish: Callable[[QueuedRequest], Any], **limits: Any
    ) -> QueuedRequest:
        # Before the request is accepted: `close` waits for the threads that it finds.
        self._start_threads()
        request = QueuedRequest(len(bound.items), finish, self._runner.run_batch, **limits)
        self._queue.accept(request)
        return request

    def _start_threads(self) -> None:
        if self._threads:
            return
        lanes = [BATCHES] * self._workers
        if self._calls.head.task == "text-generation":
            lanes.append(GENERATION)
        with self._lock:
            if not self._threads:
                self._encoder_thread = _start(self._encoder.work)
                self._threads = [_start(partial(work, self._queue, lane)) for lane in lanes]


def _start(target: Callable[[], None]) -> threading.Thread:
    # A daemon, because the interpreter joins all others before it calls _close_all.
    thread = threading.Thread(target=target, name="bertrt-batcher", daemon=True)
    thread.start()
    return thread


def _close(queue: RequestQueue, encoder: Encoder, *, cancel: bool = False) -> None:
    """Refuse further requests; those that were accepted are answered, or cancelled."""
    queue.close(cancel=cancel)
    encoder.close()


def _as_list(inputs: Any) -> list[Any]:
    if isinstance(inputs, (list, tuple)):
        return list(inputs)
    raise InputError(f"inputs is {shorten(inputs)}: give a list")


def _result(future: "Future[Answer]", timeout: float | None) -> Answer:
    try:
        return future.result(timeout)
    except TimeoutError:
        if future.done():  # it has just finished, or failed with a TimeoutError
            return future.result()
        future.cancel()
        raise BusyError(
            f"no answer within {timeout} seconds: give a longer timeout, or ask for less at a time"
        ) from None
    except BaseException:
        # An interrupted caller needs no answer.
        future.cancel()
        raise


async def _awaited(future: "Future[Answer]") -> Answer:
    import asyncio  # slow to import, and already imported wherever this is called

    return await asyncio.wrap_future(future)


def _live() -> list[DynamicBatcher]:
    return [batcher for ref in _LIVE.valuerefs() if (batcher := ref()) is not None]


@atexit.register
def _close_all() -> None:
    """Answer what waits: a thread that returns from a run any later would crash the process."""
    for batcher in _live():
        batcher.close()


def _reset_in_child() -> None:
    """In a forked child the workers are gone, locks may be held, and requests are the parent's."""
    for batcher in _live():
        closed = batcher._queue.closed
        batcher._finalizer.detach()
        batcher._reset(batcher.observe)
        if closed:
            batcher.close()


after_fork_in_child(_reset_in_child)
