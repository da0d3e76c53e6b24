"""Batches side by side, a thread for each: none waits for another, as threads that share one do.

Threads that share a batch meet after each operator and read there what the others have written. The
shorter the operators, the larger a part of the time that takes (docs/decisions.md).
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from bertrt.checks import check_whole
from bertrt.engines.fork_safe import ForkSafe
from bertrt.errors import InputError

__all__ = ["Workers", "balanced", "choose_workers", "side_by_side"]

T = TypeVar("T")

# The most that workers who end early may wait, as a share of all their time.
_IDLE = 0.1


def choose_workers(workers: int | str = "auto", *, threads: int, device: str = "cpu") -> int:
    """How many batches are run at a time.

    Args:
        workers: a number, or "auto": as many as there are threads, and one on a GPU.
        threads: of the runtime.
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


def balanced(sizes: Sequence[int], workers: int) -> bool:
    """Whether workers that take batches of these sizes, in this order, end at about the same time.

    Fewer batches than workers never are.
    """
    ends = [0] * workers
    for size in sizes:
        heapq.heapreplace(ends, ends[0] + size)
    return max(ends) * workers * (1 - _IDLE) <= sum(sizes)


class Workers(ForkSafe):
    """Threads that run batches, for all callers together; they start when they are first needed.

    Threads of each call's own took 5 % of a batch of 8x128 of MiniLM to start and to warm up.
    """

    _settings = ("count",)

    def __init__(self, count: int) -> None:
        """Name how many there are to be."""
        self.count = count
        super().__init__()

    def begin(self, call: Callable[[], T]) -> Future[T]:
        """Have one of them make a call. Raises BertrtError when they are closed."""
        future: Future[T] = self._open().submit(call)
        return future

    def _make(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.count, thread_name_prefix="bertrt-worker")


def side_by_side(calls: Iterable[Callable[[], T]], workers: Workers | None) -> Iterator[T]:
    """Have workers make calls, and yield their results in the order of the calls.

    They run ahead of whoever takes the results by twice as many calls as there are workers.
    Without workers each call is made when its result is asked for. What a call raises is
    raised in its place, and the calls after it are not made, unless they have begun.
    """
    if workers is None:
        for call in calls:
            yield call()
        return
    ahead: deque[Future[T]] = deque()
    try:
        for call in calls:
            ahead.append(workers.begin(call))
            if len(ahead) > 2 * workers.count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        wait([one for one in ahead if not one.cancel()])
