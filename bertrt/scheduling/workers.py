"""Worker threads that run batches side by side, one batch each.

Threads that share a batch wait for each other after every operator and then read what the others
wrote. The shorter the operators, the larger the share of time that takes; batches that run side by
side on a thread each avoid it (docs/decisions/runtime.md).
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from bertrt.checks import check_whole
from bertrt.engines.fork_safe import ForkSafe
from bertrt.errors import InputError

__all__ = ["Workers", "choose_workers", "finish_together", "run_in_order"]

T = TypeVar("T")

# The largest share of all workers' time that may be spent waiting for the last worker.
_IDLE = 0.1


def choose_workers(workers: int | str = "auto", *, threads: int, device: str = "cpu") -> int:
    """Return how many batches run at a time.

    Args:
        workers: a number, or "auto": as many as there are threads, and one on a GPU.
        threads: how many threads the runtime has.
        device: the device of the artifact's target; "cuda" for a GPU.

    Raises InputError for anything that is neither "auto" nor a whole number of at least 1, for
    more workers than threads, and for more than one on a GPU.
    """
    if workers == "auto":
        return 1 if device == "cuda" else threads
    check_whole("workers", workers, least=1)
    count, most = int(workers), 1 if device == "cuda" else threads
    if count > most:
        why = "a GPU runs one batch at a time" if device == "cuda" else f"threads are {threads}"
        raise InputError(f"workers is {workers}, and {why}: give at most {most}, or 'auto'")
    return count


def finish_together(sizes: Sequence[int], workers: int) -> bool:
    """Return whether workers that take batches of these sizes, in order, finish at about one time.

    False if there are fewer batches than workers.
    """
    finish_times = [0] * workers
    for size in sizes:
        heapq.heapreplace(finish_times, finish_times[0] + size)
    return max(finish_times) * workers * (1 - _IDLE) <= sum(sizes)


class Workers:
    """A pool of threads that all callers share; it starts on first use and is fork-safe.

    Starting threads for each call took 5 % of the time of a batch of 8x128 of MiniLM.
    """

    def __init__(self, count: int, most_ahead: int | None = None) -> None:
        """Prepare a pool.

        Args:
            count: the number of threads.
            most_ahead: how many calls of a caller `run_in_order` submits beside the one whose
                result the caller waits for; twice the count when None.
        """
        self.count = count
        self.most_ahead = 2 * count if most_ahead is None else most_ahead
        self._pool = _ThreadPool(count)

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run a call on one of the threads. Raises BertrtError after `close`."""
        future: Future[T] = self._pool.get().submit(call)
        return future

    def close(self) -> None:
        """End the threads; a later `submit` is an error."""
        self._pool.close()


class _ThreadPool(ForkSafe):
    _settings = ("_count",)

    def __init__(self, count: int) -> None:
        self._count = count
        super().__init__()

    def get(self) -> ThreadPoolExecutor:
        pool: ThreadPoolExecutor = self._open()
        return pool

    def _make(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._count, thread_name_prefix="bertrt-worker")


def run_in_order(calls: Iterable[Callable[[], T]], workers: Workers | None) -> Iterator[T]:
    """Run calls on workers and yield their results in the order of the calls.

    At most `most_ahead` calls run ahead of the caller. Without workers, each call runs when its
    result is requested. An exception of a call is raised in place of its result;
    later calls that have not started are then cancelled.
    """
    if workers is None:
        for call in calls:
            yield call()
        return
    ahead: deque[Future[T]] = deque()
    try:
        for call in calls:
            ahead.append(workers.submit(call))
            if len(ahead) > workers.most_ahead:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        wait([future for future in ahead if not future.cancel()])
