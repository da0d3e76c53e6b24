"""Run arrays through a model's graph in a thread, one request at a time."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bertrt.errors import BusyError
from bertrt.runtime import Runtime
from bertrt.scheduling.answered import Answered
from bertrt.serving.errors import HttpError

__all__ = ["ArrayRunner"]

# Each waits with its arrays in memory.
_MOST_WAITING = 64


class ArrayRunner:
    """Runs arrays for asyncio. Clients of arrays batch themselves, so requests do not merge."""

    def __init__(self, runtime: Runtime) -> None:
        """Run the graph of a runtime; the thread starts with the first request."""
        self._runtime = runtime
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bertrt-arrays")
        self._waiting = 0

    async def run(
        self, arrays: Mapping[str, np.ndarray], outputs: Sequence[str], deadline: float | None
    ) -> Answered:
        """Return the graph's outputs by name, float32; see `Runtime.run`.

        What has not begun is dropped at the deadline, and if the task is cancelled.

        Args:
            arrays: the inputs by name.
            outputs: the names of the outputs.
            deadline: the `time.monotonic()` by which the answer has to be there.

        Raises BusyError if many requests wait, HttpError at the deadline, and InputError for arrays
        that do not fit the graph.
        """
        if self._waiting >= _MOST_WAITING:
            raise BusyError(f"{self._waiting} requests of arrays wait: try again later")
        asked = time.perf_counter()

        def run() -> Answered:
            begun = time.perf_counter()
            values = self._runtime.run(outputs=outputs, **arrays)
            mask = arrays.get("attention_mask")
            tokens = int(arrays["input_ids"].size if mask is None else mask.sum())
            return Answered(values, tokens, 0, 0.0, begun - asked, time.perf_counter() - begun)

        self._waiting += 1
        try:
            async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                return await asyncio.get_running_loop().run_in_executor(self._thread, run)
        except TimeoutError:
            headers = {"x-should-retry": "false"}
            raise HttpError(504, "no answer within the time limit", headers=headers) from None
        finally:
            self._waiting -= 1
