"""Run arrays through a model's graph in a thread, one request at a time."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from bertrt.runtime import Runtime
from bertrt.scheduling.answered import Answered
from bertrt.serving.side_thread import SideThread

__all__ = ["ArrayRunner"]


class ArrayRunner:
    """Runs arrays for asyncio. Clients of arrays batch themselves, so requests do not merge."""

    def __init__(self, runtime: Runtime) -> None:
        """Run the graph of a runtime; the thread starts with the first request."""
        self._runtime = runtime
        self._thread = SideThread("bertrt-arrays")

    async def run(
        self, arrays: Mapping[str, np.ndarray], outputs: Sequence[str], deadline: float | None
    ) -> Answered:
        """Return the graph's outputs by name, float32; see `Runtime.run`.

        Args:
            arrays: the inputs by name.
            outputs: the names of the outputs.
            deadline: see `SideThread.admitted`, which also says what is raised.

        Raises InputError for arrays that do not fit the graph.
        """
        asked = time.perf_counter()

        def run() -> Answered:
            begun = time.perf_counter()
            values = self._runtime.run(outputs=outputs, **arrays)
            mask = arrays.get("attention_mask")
            tokens = int(arrays["input_ids"].size if mask is None else mask.sum())
            return Answered(values, tokens, 0, 0.0, begun - asked, time.perf_counter() - begun)

        async with self._thread.admitted(deadline):
            return await self._thread.run(run)
