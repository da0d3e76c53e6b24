"""A runner that keeps the CUDA graph of a run, so that the graph can be replayed alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from benchmarks.gpu.timing import capture, kernel_device
from bertrt.kernels.engine.buckets import Bucket
from bertrt.kernels.engine.program import Program, remove_padding
from bertrt.kernels.engine.upload_buffer import UploadBuffer

__all__ = ["CapturedRun", "GraphRunner"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class CapturedRun:
    """A CUDA graph, and what holds the memory that it reads."""

    graph: Any
    program: Program
    buffer: UploadBuffer


class GraphRunner:
    """A `ProgramRunner` that captures every run; `last` is the last one."""

    last: CapturedRun

    def __init__(self) -> None:
        """Run on the device of the kernels."""
        self.device = kernel_device()

    def info(self) -> dict[str, Any]:
        """Return nothing; see `ProgramRunner.info`."""
        return {}

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
        with torch.inference_mode(), np.errstate(all="ignore"):
            buffer = UploadBuffer(program.plan, bucket, self.device)
            buffer.fill(arrays, on_device=on_device)
            results = program.launch(buffer.tensors, bucket.max_length)
            graph = capture(lambda: program.launch(buffer.tensors, bucket.max_length))
        self.last = CapturedRun(graph, program, buffer)
        return consume(remove_padding(program.plan, results, arrays))
