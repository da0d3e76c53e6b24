"""The properties of the GPU that a tensor is on."""

from functools import lru_cache

import torch

from bertrt.kernels.launch.configs import Gpu

__all__ = ["get_gpu"]

# Triton's interpreter, with tensors on the CPU, gets the launches of a Hopper GPU.
_INTERPRETER = Gpu("interpreter", multiprocessors=132, shared_memory=227 * 1024)


def get_gpu(device: torch.device) -> Gpu:
    """Return the GPU of this device; the current one if it has no index."""
    if device.type != "cuda":
        return _INTERPRETER
    return _read_gpu(torch.cuda.current_device() if device.index is None else device.index)


@lru_cache
def _read_gpu(index: int) -> Gpu:
    properties = torch.cuda.get_device_properties(index)
    # Older versions of PyTorch lack this attribute; every GPU since Volta allows 96 KiB.
    shared_memory = getattr(properties, "shared_memory_per_block_optin", 96 * 1024)
    return Gpu(properties.name, properties.multi_processor_count, shared_memory)
