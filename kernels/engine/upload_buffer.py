"""The memory from which the kernels read a run's integers; it is filled by one copy per run."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from bertrt.kernels.engine.buckets import Bucket
from bertrt.kernels.engine.plan import Plan

__all__ = ["UploadBuffer"]

# Each upload starts at a multiple of this many integers (64 bytes), so that kernels may rely on
# the same alignment for every address.
_ALIGNMENT = 16


class UploadBuffer:
    """Memory for a bucket's uploads, at fixed addresses.

    `tensors` maps each upload to an int32 tensor on the device, of its size in the bucket; `fill`
    overwrites them.
    """

    def __init__(self, plan: Plan, bucket: Bucket, device: torch.device) -> None:
        """Allocate one block on the host and one on the device; on the CPU they are the same.

        Outside of inference mode, because tensors made in it can only be filled in it.
        """
        starts, total = [], 0
        for size in bucket.sizes:
            starts.append(total)
            total += -(-size // _ALIGNMENT) * _ALIGNMENT
        pinned = device.type == "cuda"
        self._host = torch.zeros(total, dtype=torch.int32, device="cpu", pin_memory=pinned)
        self._device = torch.zeros_like(self._host, device=device) if pinned else self._host
        self._uploaded = torch.cuda.Event() if pinned else None
        slices = {
            name: slice(start, start + size)
            for name, start, size in zip(plan.uploads, starts, bucket.sizes, strict=True)
        }
        block = self._host.numpy()
        self._targets = [
            (name, block[part], part.stop - part.start, name in plan.offsets)
            for name, part in slices.items()
        ]
        self._aligned_sizes = {
            name: end - part.start
            for (name, part), end in zip(slices.items(), [*starts[1:], total], strict=True)
        }
        self._offsets = plan.offsets
        self._zero = torch.zeros(1, dtype=torch.int32, device=device)
        self.tensors = {name: self._device[part] for name, part in slices.items()}

    def fill(self, arrays: Mapping[str, Any], *, on_device: bool) -> None:
        """Overwrite the uploads.

        Args:
            arrays: int32 [n] for each upload, with n at most its size. The rest is filled with
                zeros, or for offsets with the last offset, which makes empty sequences.
            on_device: True if the arrays are tensors on the device, False if they are numpy
                arrays, which wait for the previous copy from the host, but not for its run.
        """
        if on_device:
            self._fill_from_device(arrays)
        else:
            self._fill_from_host(arrays)

    def _fill_from_host(self, arrays: Mapping[str, np.ndarray]) -> None:
        if self._uploaded is not None:
            self._uploaded.synchronize()
        for name, target, size, is_offsets in self._targets:
            array = arrays[name]
            count = len(array)
            target[:count] = array
            if count < size:
                target[count:] = array[-1] if is_offsets else 0
        if self._uploaded is not None:
            self._device.copy_(self._host, non_blocking=True)
            self._uploaded.record()

    def _fill_from_device(self, tensors: Mapping[str, torch.Tensor]) -> None:
        parts = []
        for name, size in self._aligned_sizes.items():
            tensor = tensors[name]
            fill = tensor[-1:] if name in self._offsets else self._zero
            parts += [tensor, fill.expand(size - len(tensor))]
        torch.cat(parts, out=self._device)  # one launch
