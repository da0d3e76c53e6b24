"""A bucket's integers on their way to the kernels: one block of memory, one copy a run."""

from collections.abc import Mapping

import numpy as np
import torch

from bertrt.kernels.engine.buckets import Bucket
from bertrt.kernels.engine.plan import Plan

__all__ = ["Staging"]

# Numbers from one upload's begin to the next's are a multiple of this: 64 bytes, so that kernels
# may rely on every address alike.
_APART = 16


class Staging:
    """The static memory of a bucket's uploads.

    `uploads` are int32 tensors on the device, each of its size in the bucket; they stay where they
    are for as long as this lives, and change with `send` and `gather`.
    """

    def __init__(self, plan: Plan, bucket: Bucket, device: torch.device) -> None:
        """Allocate a block on the host and one on the device; on the CPU they are the same."""
        begins, total = [], 0
        for size in bucket.sizes:
            begins.append(total)
            total += -(-size // _APART) * _APART
        pinned = device.type == "cuda"
        self._host = torch.zeros(total, dtype=torch.int32, device="cpu", pin_memory=pinned)
        self._device = torch.zeros_like(self._host, device=device) if pinned else self._host
        places = {
            name: slice(begin, begin + size)
            for name, begin, size in zip(plan.uploads, begins, bucket.sizes, strict=True)
        }
        block = self._host.numpy()
        self._parts = {name: block[place] for name, place in places.items()}
        self._widths = {
            name: end - place.start
            for (name, place), end in zip(places.items(), [*begins[1:], total], strict=True)
        }
        self._offsets = plan.offsets
        self._zero = torch.zeros(1, dtype=torch.int32, device=device)
        self.uploads = {name: self._device[place] for name, place in places.items()}

    def send(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Fill the uploads from the host; the run before must be over.

        Args:
            arrays: int32 [n] for each upload, n at most its size. What is left is filled with
                zeros, or of offsets with the last one: sequences without tokens.
        """
        for name, part in self._parts.items():
            array = arrays[name]
            part[: len(array)] = array
            part[len(array) :] = array[-1] if name in self._offsets else 0
        if self._device is not self._host:
            self._device.copy_(self._host, non_blocking=True)

    def gather(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Fill the uploads as `send` does, from tensors on the device, and in one launch."""
        pieces = []
        for name, width in self._widths.items():
            tensor = tensors[name]
            fill = tensor[-1:] if name in self._offsets else self._zero
            pieces += [tensor, fill.expand(width - len(tensor))]
        torch.cat(pieces, out=self._device)
