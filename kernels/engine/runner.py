"""How a program runs on a device: the interface, and launching one kernel after another."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from bertrt.kernels.engine.buckets import Bucket
from bertrt.kernels.engine.program import Program, remove_padding
from bertrt.kernels.engine.upload_buffer import UploadBuffer

__all__ = ["EagerRunner", "ProgramRunner"]

Result = TypeVar("Result")


class ProgramRunner(Protocol):
    """Runs programs on `device`, where the weights have to be. Not thread-safe."""

    device: torch.device

    def info(self) -> dict[str, Any]:
        """Return what `Runtime.info` says about how programs run here."""

    def run(
        self,
        program: Program,
        bucket: Bucket,
        arrays: Mapping[str, Any],
        consume: Callable[[dict[str, torch.Tensor]], Result],
        *,
        on_device: bool,
    ) -> Result:
        """Run a program and return what `consume` makes of its results.

        Args:
            program: the program to run.
            bucket: the sizes to pad to, from `choose_bucket`.
            arrays: int32 [n] for each of the plan's uploads.
            consume: takes the results, float32 tensors without padding rows, and queues what reads
                them on the current stream. A later run may overwrite them after that.
            on_device: True if the arrays are tensors on the device, ready on the caller's current
                stream; `consume` is then called on that stream.
        """


class EagerRunner:
    """Launches kernel after kernel on the current stream.

    With Triton's interpreter the tensors are on the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        """Run on this device."""
        self.device = device

    def info(self) -> dict[str, Any]:
        """Return nothing: launches have no state."""
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
        # The interpreter computes with numpy, which would warn about values in padding rows.
        with torch.inference_mode(), np.errstate(all="ignore"):
            buffer = UploadBuffer(program.plan, bucket, self.device)
            buffer.fill(arrays, on_device=on_device)
            results = program.launch(buffer.tensors, bucket.max_length)
        return consume(remove_padding(program.plan, results, arrays))
