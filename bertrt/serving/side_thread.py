"""A thread beside the event loop, for a bounded number of requests.

What it runs may hold the interpreter's lock, so many items are run in slices. Those of other
requests come in between, and so does the event loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from bertrt.errors import BusyError
from bertrt.serving.errors import HttpError

__all__ = ["SideThread"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Each waits with its inputs in memory.
_MOST_WAITING = 64
# The seconds of a slice.
_SLICE = 0.001


class SideThread:
    """Runs functions for requests, one function at a time."""

    def __init__(self, name: str) -> None:
        """Give the thread a name; it starts with the first request."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting = 0

    @asynccontextmanager
    async def admitted(self, deadline: float | None) -> AsyncIterator[None]:
        """Admit a request, which may run functions until its deadline.

        What has not begun is dropped at the deadline, and if the task is cancelled.

        Args:
            deadline: the `time.monotonic()` by which the answer has to be there; None for none.

        Raises BusyError if many requests wait, and HttpError at the deadline.
        """
        if self._waiting >= _MOST_WAITING:
            raise BusyError(f"{self._waiting} requests wait: try again later")
        self._waiting += 1
        try:
            async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                yield
        except TimeoutError:
            headers = {"x-should-retry": "false"}
            raise HttpError(504, "no answer within the time limit", headers=headers) from None
        finally:
            self._waiting -= 1

    async def run(self, function: Callable[[], _Result]) -> _Result:
        """Run a function in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def map(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> list[_Result]:
        """Run a function for each item in the thread, in slices."""
        done: list[_Result] = []
        rest = iter(items)
        while part := await self.run(partial(_slice, function, rest)):
            done += part
        return done


def _slice(function: Callable[[_Item], _Result], items: Iterator[_Item]) -> list[_Result]:
    """Run a function for items for the time of a slice, for one at least if there is any."""
    end = time.perf_counter() + _SLICE
    done = []
    for item in items:
        done.append(function(item))
        if time.perf_counter() >= end:
            break
    return done
