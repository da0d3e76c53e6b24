"""The GPU that a tensor is on, as far as launches depend on it."""

from functools import lru_cache

import torch

from bertrt.kernels.launch.configs import Gpu

__all__ = ["gpu_of"]

# What Triton's interpreter stands in for, where tensors are on the CPU.
_INTERPRETED = Gpu("interpreter", multiprocessors=132, shared_memory=227 * 1024)


def gpu_of(device: torch.device) -> Gpu:
    """The GPU of this index, the current one where it has none; a Hopper's sizes for the CPU."""
    if device.type != "cuda":
        return _INTERPRETED
    return _read(torch.cuda.current_device() if device.index is None else device.index)


@lru_cache
def _read(index: int) -> Gpu:
    found = torch.cuda.get_device_properties(index)
    # Older versions of PyTorch do not tell; every GPU since Volta allows this much.
    shared = getattr(found, "shared_memory_per_block_optin", 96 * 1024)
    return Gpu(found.name, found.multi_processor_count, shared)
