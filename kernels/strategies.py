"""The two ways to run a program: one launch after the other, or a CUDA graph for each bucket."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from bertrt.kernels.buckets import Bucket, Recent
from bertrt.kernels.program import Program, fetch
from bertrt.kernels.staging import Staging

__all__ = ["Captured", "Launched", "Strategy"]

# The most CUDA graphs of a session, and the most bytes of results that they hold on the device.
_GRAPHS = 128
_ROOM = 1 << 30


class Strategy(Protocol):
    """Runs a program on what ENTRY made of a batch. Not safe from more than one thread at a time.

    `device` is where the weights have to be.
    """

    device: torch.device

    def run(
        self, program: Program, bucket: Bucket, arrays: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The program's results, float32 arrays with the rows that are real.

        Args:
            program: what to run.
            bucket: the sizes to pad to, as from `choose_bucket`.
            arrays: int32 [n] for each of the plan's uploads.
        """


class Launched:
    """Kernel after kernel; the way of Triton's interpreter, with tensors on the CPU."""

    def __init__(self, device: torch.device) -> None:
        """Run on a device."""
        self.device = device

    def run(
        self, program: Program, bucket: Bucket, arrays: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """See `Strategy`."""
        # The interpreter computes with numpy, which would warn of rows beyond the real ones.
        with torch.inference_mode(), np.errstate(all="ignore"):
            staging = Staging(program.plan, bucket, self.device)
            staging.send(arrays)
            return fetch(program.plan, program.launch(staging.uploads, bucket.longest), arrays)


@dataclass(frozen=True)
class _Replay:
    """A CUDA graph, the memory that it reads from, and its results."""

    graph: Any
    staging: Staging
    results: Mapping[str, torch.Tensor]


class Captured:
    """A CUDA graph for each bucket and each choice of outputs, captured after its first run.

    All graphs share one pool of memory: they run one after the other, and results are copied
    before the next run. So the pool is as large as the largest graph's needs, and the results.
    """

    def __init__(self, device: torch.device, *, graphs: int = _GRAPHS, room: int = _ROOM) -> None:
        """Run on a GPU, keeping at most so many graphs, and so many bytes of their results.

        A bucket whose results alone need more bytes is launched kernel by kernel.
        """
        self.device = device
        self._recent: Recent[tuple[tuple[str, ...], Bucket], _Replay] = Recent(graphs, room)
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __len__(self) -> int:
        """The number of graphs that are kept."""
        return len(self._recent)

    def run(
        self, program: Program, bucket: Bucket, arrays: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """See `Strategy`."""
        # Device and stream are a thread's own settings.
        with (
            torch.cuda.device(self.device),
            torch.cuda.stream(self._stream),
            torch.inference_mode(),
        ):
            replay = self._recent.get((program.plan.outputs, bucket))
            if replay is None:
                return self._first(program, bucket, arrays)
            replay.staging.send(arrays)
            replay.graph.replay()
            return fetch(program.plan, replay.results, arrays)

    def _first(
        self, program: Program, bucket: Bucket, arrays: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Answer by launching, which compiles what is not yet, and capture the same for later."""
        staging = Staging(program.plan, bucket, self.device)
        staging.send(arrays)
        results = program.launch(staging.uploads, bucket.longest)
        size = sum(result.nbytes for result in results.values())
        answer = fetch(program.plan, results, arrays)
        del results
        if self._recent.fits(size):
            graph = torch.cuda.CUDAGraph()
            # Another thread's use of the GPU is no concern of this capture.
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                results = program.launch(staging.uploads, bucket.longest)
            replay = _Replay(graph, staging, results)
            self._recent.put((program.plan.outputs, bucket), replay, size)
        return answer
