"""A live stream: requests from threads and asyncio that come at the same time, run together.

A worker takes what waits and runs it as one batch; what comes meanwhile waits for the next. So an
idle stream answers at once, nobody waits for a timer, and the batches grow with the load.
"""

import atexit
import os
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from bertrt.checks import check_whole
from bertrt.errors import BertrtError, BusyError, InputError
from bertrt.heads.base import Answer, HeadRequest
from bertrt.scheduling.batch_runner import BatchRunner
from bertrt.scheduling.request_queue import Part, Request, RequestQueue

if TYPE_CHECKING:
    from bertrt.runtime import Runtime

__all__ = ["DynamicBatcher", "close_streams"]

_LIVE: "weakref.WeakValueDictionary[int, DynamicBatcher]" = weakref.WeakValueDictionary()


class DynamicBatcher:
    """Answers single inputs, merging those that wait; made by `Runtime.stream`.

    Every call takes one input and the options of `Runtime.__call__`, or for vectors those of
    `Runtime.embed`, and gives the same answer, whatever it was merged with. An input is encoded,
    and refused with InputError, where it is asked; the model runs in the stream's own threads.
    Inputs with different options share a batch, unless they need different outputs of the graph.
    Generated text is made for one input at a time, and the others wait meanwhile.

    A stream is safe from many threads. A pickled one is opened anew, and so is one in a forked
    child: requests made before the fork are the parent's. At exit, what waits is still answered.
    """

    def __init__(
        self,
        runtime: "Runtime",
        executor: BatchRunner,
        *,
        max_waiting: int,
        max_tokens: int,
        workers: int,
    ) -> None:
        """Open a stream of `runtime` that runs on `executor`; see `Runtime.stream`."""
        check_whole("max_waiting", max_waiting, least=1)
        check_whole("max_tokens", max_tokens, least=1)
        self._runtime = runtime
        self._executor = executor
        self._max_waiting = max_waiting
        self._max_tokens = max_tokens
        self._workers = workers
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._waiting = RequestQueue(self._max_waiting, self._max_tokens)
        # Idle workers hold the queue only. Without a stream nothing more comes, and they end.
        self._ending = weakref.finalize(self, self._waiting.close)
        self._ending.atexit = False
        _LIVE[id(self)] = self

    def __getstate__(self) -> dict[str, Any]:
        names = ("_runtime", "_executor", "_max_waiting", "_max_tokens", "_workers")
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __call__(
        self, *inputs: Any, wait: bool = False, timeout: float | None = None, **options: Any
    ) -> Answer:
        """The answer to one input; the calling thread waits for it.

        Args:
            inputs, options: as in `Runtime.__call__`.
            wait: whether to wait for room in a stream that is full; otherwise that is a BusyError.
            timeout: after how many seconds to give up with a BusyError; None is never.
        """
        return _result(
            self._send(self._runtime.ask(self._executor, *inputs, **options), wait), timeout
        )

    def embed(
        self, text: Any, *, wait: bool = False, timeout: float | None = None, **options: Any
    ) -> Any:
        """One text's vector, float32 [H], as from `Runtime.embed`; the rest as in a call."""
        return _result(
            self._send(self._runtime.build_vector_request(text, **options), wait), timeout
        )

    def submit(self, *inputs: Any, wait: bool = False, **options: Any) -> "Future[Answer]":
        """A Future of the answer to one input; `result(timeout)` waits for it.

        Cancelling it drops the request, unless that has started. With `wait=True`, a full stream
        makes the caller wait until there is room again, and is a BusyError otherwise.
        """
        return self._submit(self._runtime.ask(self._executor, *inputs, **options), wait)

    def submit_embed(self, text: Any, *, wait: bool = False, **options: Any) -> "Future[Any]":
        """A Future of one text's vector; the rest as in `submit`."""
        return self._submit(self._runtime.build_vector_request(text, **options), wait)

    async def acall(self, *inputs: Any, wait: bool = False, **options: Any) -> Answer:
        """The answer to one input, for asyncio; any event loop.

        A task that is cancelled drops its request, unless that has started. `wait` is as in a
        call; for a time limit use `asyncio.timeout`.
        """
        return await _awaited(
            self._send(self._runtime.ask(self._executor, *inputs, **options), wait)
        )

    async def aembed(self, text: Any, *, wait: bool = False, **options: Any) -> Any:
        """One text's vector, for asyncio; the rest as in `acall`."""
        return await _awaited(self._send(self._runtime.build_vector_request(text, **options), wait))

    def close(self, *, cancel: bool = False) -> None:
        """Refuse further requests, and return when those that were accepted are answered.

        Args:
            cancel: cancels those that have not started, in place of answering them.

        Closing twice is no error. A Future's callback that closes the stream does not wait.
        """
        self._waiting.close(cancel=cancel)
        with self._lock:
            threads = list(self._threads)
        if threading.current_thread() in threads:
            return
        for thread in threads:
            thread.join()

    def warmup(self, shapes: Sequence[tuple[int, int]] = ((1, 8), (1, 32), (1, 128))) -> None:
        """Open the stream's session and run it at each shape; see `Runtime.warmup`."""
        self._executor.warmup(shapes)

    def __enter__(self) -> "DynamicBatcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<bertrt.DynamicBatcher of {self._runtime!r} with {self._workers} workers>"

    def _send(self, asked: HeadRequest, wait: bool) -> "Future[Answer]":
        """Put a request into the queue, beyond its bound if the caller waits for it anyway."""
        if not isinstance(wait, bool):
            raise InputError(f"wait is {wait!r:.60}: give True or False")
        request = Request(asked, self._executor.batch)
        # In this order: `close` waits for the workers that it finds.
        self._start_workers()
        self._waiting.add(request, bounded=not wait)
        return request.future

    def _submit(self, asked: HeadRequest, wait: bool) -> "Future[Answer]":
        future = self._send(asked, wait)
        if wait:
            self._waiting.wait_for_room()
        return future

    def _start_workers(self) -> None:
        if len(self._threads) == self._workers:
            return
        with self._lock:
            while len(self._threads) < self._workers:
                # Daemons, since the interpreter waits for all others before it calls _at_exit.
                thread = threading.Thread(
                    target=_work, args=(self._waiting,), name="bertrt-stream", daemon=True
                )
                thread.start()
                self._threads.append(thread)


def close_streams(runtime: "Runtime") -> None:
    """Close every stream of a runtime."""
    for stream in _live():
        if stream._runtime is runtime:
            stream.close()


def _work(waiting: RequestQueue) -> None:
    """A worker's life: batch after batch, until the queue is closed and empty."""
    while batch := waiting.take():
        _answer(batch, waiting)
        # While it waits, a worker keeps nothing alive.
        del batch


def _answer(batch: Sequence[Part], waiting: RequestQueue) -> None:
    """Run a batch and finish the requests that are complete then."""
    first = batch[0].request
    asked = first.asked
    if not asked.encodings:
        first.finish()
        return
    encodings = [part.request.asked.encodings[part.place] for part in batch]
    try:
        rows = first.run(encodings, outputs=asked.outputs, tokens=asked.tokens)
    except BaseException as error:
        for request in dict.fromkeys(part.request for part in batch):
            waiting.fail(request, _own(error))
        return
    for part, row in zip(batch, rows, strict=True):
        if waiting.arrived(part, row):
            part.request.finish()


def _own(error: BaseException) -> BertrtError:
    """A batch's error for one of its requests: raised in many threads, one object would be torn."""
    if isinstance(error, BertrtError):
        own = type(error)(*error.args)
    else:
        own = BertrtError(f"the run that this request was part of failed: {error!r}; ask again")
    own.__cause__ = error
    return own


def _result(future: "Future[Answer]", timeout: float | None) -> Answer:
    try:
        return future.result(timeout)
    except TimeoutError:
        if future.done():  # just now, or with an error of this kind
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
    import asyncio  # slow to import, and there already wherever this is called

    return await asyncio.wrap_future(future)


def _live() -> list[DynamicBatcher]:
    return [stream for ref in _LIVE.valuerefs() if (stream := ref()) is not None]


@atexit.register
def _at_exit() -> None:
    """Answer what waits: a thread that came back from a run any later would crash the process."""
    for stream in _live():
        stream.close()


def _forget_the_parents_requests() -> None:
    """In a forked child: the workers are gone, locks may be held, and what waits is not its own."""
    for stream in _live():
        closed = stream._waiting.closed
        stream._ending.detach()
        stream._reset()
        if closed:
            stream.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents_requests)
