"""Dynamic batching: requests that come at the same time, from threads or asyncio, run together.

A worker takes what waits and runs it as one batch; requests that come meanwhile wait for the next.
So an idle batcher answers at once, no request waits for a timer, and batches grow with the load.
"""

import atexit
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from bertrt.checks import check_flag, check_whole
from bertrt.engines.fork_safe import after_fork_in_child
from bertrt.errors import BertrtError, BusyError
from bertrt.heads.calls import Call, CallParser, build_request
from bertrt.heads.request import Answer
from bertrt.scheduling.batch_runner import BatchRunner
from bertrt.scheduling.request_queue import QueuedRequest, RequestPart, RequestQueue

__all__ = ["DynamicBatcher"]

_LIVE: "weakref.WeakValueDictionary[int, DynamicBatcher]" = weakref.WeakValueDictionary()


class DynamicBatcher:
    """Answers single inputs and merges those that wait; opened with `Runtime.batcher`.

    Every method takes one input and the options of `Runtime.__call__`, or for vectors those of
    `Runtime.embed`, and gives the same answer, whatever it was merged with. The calling thread
    encodes the input and gets InputError for a bad one; the batcher's own threads run the model.
    Inputs with different options share a batch, unless they need different outputs of the graph.
    Text is generated for one input at a time, while the others wait.

    Thread-safe. A pickled batcher is opened anew, and so is one in a forked child: requests made
    before the fork belong to the parent. At exit, requests that wait are still answered.
    """

    def __init__(
        self,
        calls: CallParser,
        runner: BatchRunner,
        *,
        max_waiting: int,
        max_batch_tokens: int,
        workers: int,
    ) -> None:
        """Answer the calls that `calls` parses with `runner`; see `Runtime.batcher`."""
        check_whole("max_waiting", max_waiting, least=1)
        check_whole("max_batch_tokens", max_batch_tokens, least=1)
        self._calls = calls
        self._runner = runner
        self._max_waiting = max_waiting
        self._max_batch_tokens = max_batch_tokens
        self._workers = workers
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._queue = RequestQueue(self._max_waiting, self._max_batch_tokens)
        # Idle workers hold only the queue. When the batcher is freed, it closes and they end.
        self._finalizer = weakref.finalize(self, self._queue.close)
        self._finalizer.atexit = False
        _LIVE[id(self)] = self

    def __getstate__(self) -> dict[str, Any]:
        names = ("_calls", "_runner", "_max_waiting", "_max_batch_tokens", "_workers")
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

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

    def submit(self, *inputs: Any, wait: bool = False, **options: Any) -> "Future[Answer]":
        """Return a Future of the answer to one input; `result(timeout)` waits for it.

        Cancelling the Future drops the request, unless it has started. When the batcher is full,
        `wait=True` makes the caller wait for room; otherwise that is a BusyError.
        """
        return self._submit(self._calls.parse(options), inputs, wait)

    def submit_embed(self, text: Any, *, wait: bool = False, **options: Any) -> "Future[Any]":
        """Return a Future of one text's vector; otherwise as `submit`."""
        return self._submit(self._calls.parse_embed(options), (text,), wait)

    async def acall(self, *inputs: Any, wait: bool = False, **options: Any) -> Answer:
        """Return the answer to one input, for asyncio; any event loop.

        Cancelling the task drops the request, unless it has started. `wait` is as in a call; for a
        time limit use `asyncio.timeout`.
        """
        return await _awaited(self._send(self._calls.parse(options), inputs, wait))

    async def aembed(self, text: Any, *, wait: bool = False, **options: Any) -> Any:
        """Return one text's vector, for asyncio; otherwise as `acall`."""
        return await _awaited(self._send(self._calls.parse_embed(options), (text,), wait))

    def close(self, *, cancel: bool = False) -> None:
        """Refuse further requests, and return when all accepted requests are answered.

        Args:
            cancel: cancel requests that have not started instead of answering them.

        Closing twice is not an error. A Future's callback that closes the batcher does not wait.
        """
        self._queue.close(cancel=cancel)
        with self._lock:
            threads = list(self._threads)
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
        head_request = build_request(call, self._runner, *inputs)
        request = QueuedRequest(head_request, self._runner.run_batch)
        # Before the request is added: `close` waits for the workers that it finds.
        self._start_workers()
        self._queue.add(request, bounded=not wait)
        return request.future

    def _submit(self, call: Call, inputs: tuple[Any, ...], wait: bool) -> "Future[Answer]":
        future = self._send(call, inputs, wait)
        if wait:
            self._queue.wait_for_room()
        return future

    def _start_workers(self) -> None:
        if len(self._threads) == self._workers:
            return
        with self._lock:
            while len(self._threads) < self._workers:
                # Daemons, because the interpreter joins all others before it calls _close_all.
                thread = threading.Thread(
                    target=_work, args=(self._queue,), name="bertrt-batcher", daemon=True
                )
                thread.start()
                self._threads.append(thread)


def _work(queue: RequestQueue) -> None:
    """Run batch after batch until the queue is closed and empty."""
    while batch := queue.take():
        _run(batch, queue)
        # A worker that waits keeps nothing alive.
        del batch


def _run(batch: Sequence[RequestPart], queue: RequestQueue) -> None:
    """Run a batch and finish the requests that are complete then."""
    first = batch[0].request
    if not first.request.encodings:
        first.finish()
        return
    encodings = [part.request.request.encodings[part.index] for part in batch]
    try:
        samples = first.run_batch(
            encodings, outputs=first.request.outputs, tokens=first.request.tokens
        )
    except BaseException as error:
        for request in dict.fromkeys(part.request for part in batch):
            queue.fail(request, _copy_of(error))
        return
    for part, outputs in zip(batch, samples, strict=True):
        if queue.add_outputs(part, outputs):
            part.request.finish()


def _copy_of(error: BaseException) -> BertrtError:
    """Return a batch's error for one of its requests: many threads must not raise one object."""
    if isinstance(error, BertrtError):
        copy = type(error)(*error.args)
    else:
        copy = BertrtError(f"the run that this request was part of failed: {error!r}; ask again")
    copy.__cause__ = error
    return copy


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
        batcher._reset()
        if closed:
            batcher.close()


after_fork_in_child(_reset_in_child)
