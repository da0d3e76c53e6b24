"""Run programs as CUDA graphs, one for each bucket."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch

from bertrt.kernels.engine.buckets import Bucket
from bertrt.kernels.engine.capture import capture
from bertrt.kernels.engine.lru_cache import LruCache
from bertrt.kernels.engine.program import Program, remove_padding
from bertrt.kernels.engine.upload_buffer import UploadBuffer

__all__ = ["CudaGraphRunner"]

_log = logging.getLogger(__name__)

Result = TypeVar("Result")
# What a graph computes, from what (which differs by the run's flags), and for which sizes.
Key: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], Bucket]

_MAX_GRAPHS = 128
_MAX_RESULT_BYTES = 1 << 30


@dataclass(frozen=True)
class _CapturedGraph:
    """A CUDA graph, the buffer that it reads from, and the results that it writes."""

    graph: Any
    buffer: UploadBuffer
    results: Mapping[str, torch.Tensor]


class CudaGraphRunner:
    """A `ProgramRunner` that captures a CUDA graph for each bucket of each plan.

    The first run of a bucket launches the kernels and then captures them; later runs replay the
    graph. All graphs share one memory pool and one stream: they run one after another, and the
    results are consumed before the next run. So the pool is as large as the largest graph needs,
    plus the results. A bucket whose capture fails is launched from then on.
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
        self._graphs: LruCache[Key, _CapturedGraph] = LruCache(max_graphs, max_result_bytes)
        self._failed: set[Key] = set()
        self._reason = ""
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __len__(self) -> int:
        """Return the number of graphs that are kept."""
        return len(self._graphs)

    def info(self) -> dict[str, Any]:
        """Return whether CUDA graphs are used: True, or where not, with the first reason."""
        if not self._failed:
            return {"cuda_graphs": True}
        return {"cuda_graphs": f"not for all sizes: {len(self._failed)} failed ({self._reason})"}

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
        key = (program.plan.outputs, program.plan.uploads, bucket)
        captured = self._graphs.get(key)
        if captured and not on_device and torch.cuda.current_device() == self.device.index:
            return self._replay_from_host(captured, program, arrays, consume)
        # The current device and the current stream are settings of each thread.
        with torch.cuda.device(self.device):
            caller_stream = torch.cuda.current_stream() if on_device else self._stream
            _wait(self._stream, caller_stream)
            try:
                with torch.cuda.stream(self._stream):
                    buffer = (
                        captured.buffer
                        if captured
                        else UploadBuffer(program.plan, bucket, self.device)
                    )
                    buffer.fill(arrays, on_device=on_device)
                    if captured:
                        captured.graph.replay()
                        results = captured.results
                    else:
                        with torch.inference_mode():
                            results = program.launch(buffer.tensors, bucket.max_length)
            finally:
                # Also after an error: the arrays' memory must not be reused before it was read.
                _wait(caller_stream, self._stream)
            with torch.cuda.stream(caller_stream):
                consumed = consume(remove_padding(program.plan, results, arrays))
            # The next replay must not overwrite results that are still being consumed.
            _wait(self._stream, caller_stream)
            if not captured and key not in self._failed:
                size = sum(result.nbytes for result in results.values())
                del results
                if self._graphs.fits(size):
                    self._capture(key, program, buffer, size)
            return consumed

    def _replay_from_host(
        self,
        captured: _CapturedGraph,
        program: Program,
        arrays: Mapping[str, np.ndarray],
        consume: Callable[[dict[str, torch.Tensor]], Result],
    ) -> Result:
        """Replay a graph on arrays of the host, as most runs do, with the least work of the host.

        PyTorch's context managers for devices, streams and inference save and restore more than is
        needed here.
        """
        caller_stream = torch.cuda.current_stream()
        torch.cuda.set_stream(self._stream)
        try:
            captured.buffer.fill(arrays, on_device=False)
            captured.graph.replay()
            return consume(remove_padding(program.plan, captured.results, arrays))
        finally:
            torch.cuda.set_stream(caller_stream)

    def _capture(self, key: Key, program: Program, buffer: UploadBuffer, size: int) -> None:
        """Capture a program that has just run; its answer is not lost if that fails."""
        *_, bucket = key
        try:
            graph, results = capture(
                lambda: program.launch(buffer.tensors, bucket.max_length), self._stream, self._pool
            )
        except Exception as error:
            if not self._failed:
                first_line, *_ = str(error).splitlines() or [""]
                self._reason = f"{type(error).__name__}: {first_line}"
                _log.warning(
                    "a CUDA graph could not be captured, so batches of that size are launched "
                    "kernel by kernel (%s)",
                    self._reason,
                )
            self._failed.add(key)
            self._pool = torch.cuda.graph_pool_handle()
        else:
            self._graphs.put(key, _CapturedGraph(graph, buffer, results), size)


def _wait(stream: Any, other: Any) -> None:
    """Make a stream wait for all work that is queued on another."""
    if stream != other:
        stream.wait_stream(other)
