"""Run programs as CUDA graphs, one for each bucket."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from bertrt.kernels.engine.buckets import Bucket
from bertrt.kernels.engine.lru_cache import LruCache
from bertrt.kernels.engine.program import Program, remove_padding
from bertrt.kernels.engine.upload_buffer import UploadBuffer

__all__ = ["CudaGraphRunner"]

Result = TypeVar("Result")

_MAX_GRAPHS = 128
_MAX_RESULT_BYTES = 1 << 30


@dataclass(frozen=True)
class _CapturedGraph:
    """A CUDA graph, the buffer that it reads from, and the results that it writes."""

    graph: Any
    buffer: UploadBuffer
    results: Mapping[str, torch.Tensor]

    def replay(self) -> Mapping[str, torch.Tensor]:
        self.graph.replay()
        return self.results


class CudaGraphRunner:
    """A `ProgramRunner` that captures a CUDA graph for each bucket and each set of outputs.

    The first run of a bucket launches the kernels and then captures them; later runs replay the
    graph. All graphs share one memory pool and one stream: they run one after another, and the
    results are consumed before the next run. So the pool is as large as the largest graph needs,
    plus the results.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        max_graphs: int = _MAX_GRAPHS,
        max_result_bytes: int = _MAX_RESULT_BYTES,
    ) -> None:
        """Run on a GPU.

        Args:
            device: the GPU.
            max_graphs: the number of graphs to keep.
            max_result_bytes: the total size of their results. A bucket whose results alone are
                larger is never captured.
        """
        self.device = device
        self._graphs: LruCache[tuple[tuple[str, ...], Bucket], _CapturedGraph] = LruCache(
            max_graphs, max_result_bytes
        )
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __len__(self) -> int:
        """Return the number of graphs that are kept."""
        return len(self._graphs)

    def run(
        self,
        program: Program,
        bucket: Bucket,
        arrays: Mapping[str, Any],
        consume: Callable[[dict[str, torch.Tensor]], Result],
        *,
        on_device: bool,
    ) -> Result:
        """Run a program; see `ProgramRunner.run`."""
        # The current device and the current stream are settings of each thread.
        with torch.cuda.device(self.device):
            caller_stream = torch.cuda.current_stream() if on_device else self._stream
            captured = self._graphs.get((program.plan.outputs, bucket))
            _wait(self._stream, caller_stream)
            try:
                with torch.cuda.stream(self._stream), torch.inference_mode():
                    buffer = (
                        UploadBuffer(program.plan, bucket, self.device)
                        if captured is None
                        else captured.buffer
                    )
                    buffer.fill(arrays, on_device=on_device)
                    results = (
                        program.launch(buffer.tensors, bucket.max_length)
                        if captured is None
                        else captured.replay()
                    )
            finally:
                # Also after an error: the arrays' memory must not be reused before it was read.
                _wait(caller_stream, self._stream)
            with torch.cuda.stream(caller_stream):
                consumed = consume(remove_padding(program.plan, results, arrays))
            # The next replay must not overwrite results that are still being consumed.
            _wait(self._stream, caller_stream)
            if captured is None:
                size = sum(result.nbytes for result in results.values())
                del results
                if self._graphs.fits(size):
                    self._capture(program, bucket, buffer, size)
            return consumed

    def _capture(self, program: Program, bucket: Bucket, buffer: UploadBuffer, size: int) -> None:
        """Capture a program that has been launched before, and so is compiled."""
        graph = torch.cuda.CUDAGraph()
        # "thread_local": what other threads do on the GPU does not invalidate this capture.
        with (
            torch.inference_mode(),
            torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ),
        ):
            results = program.launch(buffer.tensors, bucket.max_length)
        captured = _CapturedGraph(graph, buffer, results)
        self._graphs.put((program.plan.outputs, bucket), captured, size)


def _wait(stream: Any, other: Any) -> None:
    """Make a stream wait for all work that is queued on another."""
    if stream != other:
        stream.wait_stream(other)
