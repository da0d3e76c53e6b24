"""The two ways to run a program: one launch after the other, or a CUDA graph for each bucket."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from bertrt.kernels.engine.buckets import Bucket, Recent
from bertrt.kernels.engine.program import Program, real_rows
from bertrt.kernels.engine.upload_buffer import Staging

__all__ = ["Captured", "Launched", "Strategy"]

Taken = TypeVar("Taken")

# The most CUDA graphs of a session, and the most bytes of results that they hold on the device.
_GRAPHS = 128
_ROOM = 1 << 30


class Strategy(Protocol):
    """Runs a program on what ENTRY made of a batch. Not safe from more than one thread at a time.

    `device` is where the weights have to be.
    """

    device: torch.device

    def run(
        self,
        program: Program,
        bucket: Bucket,
        arrays: Mapping[str, Any],
        take: Callable[[dict[str, torch.Tensor]], Taken],
        *,
        there: bool,
    ) -> Taken:
        """Run, and give the results to `take`, whose answer is the run's.

        Args:
            program: what to run.
            bucket: the sizes to pad to, as from `choose_bucket`.
            arrays: int32 [n] for each of the plan's uploads.
            take: is given the results, float32 tensors with the rows that are real. A later run
                may overwrite them.
            there: whether the arrays are tensors on the device, of the caller's current stream.
                `take` works on that stream then; else it has to wait for the current one.
        """


class Launched:
    """Kernel after kernel; the way of Triton's interpreter, with tensors on the CPU."""

    def __init__(self, device: torch.device) -> None:
        """Run on a device, on the current stream."""
        self.device = device

    def run(
        self,
        program: Program,
        bucket: Bucket,
        arrays: Mapping[str, Any],
        take: Callable[[dict[str, torch.Tensor]], Taken],
        *,
        there: bool,
    ) -> Taken:
        """See `Strategy`."""
        # The interpreter computes with numpy, which would warn of rows beyond the real ones.
        with torch.inference_mode(), np.errstate(all="ignore"):
            staging = Staging(program.plan, bucket, self.device)
            (staging.gather if there else staging.send)(arrays)
            results = program.launch(staging.uploads, bucket.longest)
        return take(real_rows(program.plan, results, arrays))


@dataclass(frozen=True)
class _Replay:
    """A CUDA graph, the memory that it reads from, and its results."""

    graph: Any
    staging: Staging
    results: Mapping[str, torch.Tensor]


class Captured:
    """A CUDA graph for each bucket and each choice of outputs, captured after its first run.

    All graphs share one pool of memory and one stream: they run one after the other, and results
    are taken before the next run. So the pool is as large as the largest graph's needs, and the
    results.
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
        self,
        program: Program,
        bucket: Bucket,
        arrays: Mapping[str, Any],
        take: Callable[[dict[str, torch.Tensor]], Taken],
        *,
        there: bool,
    ) -> Taken:
        """See `Strategy`."""
        # Device and stream are a thread's own settings.
        with torch.cuda.device(self.device):
            callers = torch.cuda.current_stream() if there else self._stream
            _follow(self._stream, callers)
            replay = self._recent.get((program.plan.outputs, bucket))
            results: Mapping[str, torch.Tensor]
            try:
                with torch.cuda.stream(self._stream), torch.inference_mode():
                    if replay is None:
                        staging = Staging(program.plan, bucket, self.device)
                        (staging.gather if there else staging.send)(arrays)
                        results = program.launch(staging.uploads, bucket.longest)
                    else:
                        (replay.staging.gather if there else replay.staging.send)(arrays)
                        replay.graph.replay()
                        results = replay.results
            finally:
                # Nor is the arrays' memory given to others before it was read.
                _follow(callers, self._stream)
            with torch.cuda.stream(callers):
                taken = take(real_rows(program.plan, results, arrays))
            _follow(self._stream, callers)
            if replay is None:
                size = sum(result.nbytes for result in results.values())
                del results
                if self._recent.fits(size):
                    self._capture(program, bucket, staging, size)
            return taken

    def _capture(self, program: Program, bucket: Bucket, staging: Staging, size: int) -> None:
        """Capture what was launched, which has compiled it, for later runs."""
        graph = torch.cuda.CUDAGraph()
        # Another thread's use of the GPU is no concern of this capture.
        with (
            torch.inference_mode(),
            torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ),
        ):
            results = program.launch(staging.uploads, bucket.longest)
        replay = _Replay(graph, staging, results)
        self._recent.put((program.plan.outputs, bucket), replay, size)


def _follow(later: Any, earlier: Any) -> None:
    """Let a stream wait for all that another has to do by now."""
    if later != earlier:
        later.wait_stream(earlier)
