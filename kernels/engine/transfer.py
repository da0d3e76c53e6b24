"""Arrays from host to device and back, and results that become the caller's own."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch

__all__ = ["fetch", "owned", "upload"]


def fetch(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Tensors on the host, as arrays of the caller's own.

    Args:
        tensors: on a GPU, of the current stream, which is waited for.
    """
    parts = {name: tensor.to("cpu", non_blocking=True) for name, tensor in tensors.items()}
    places = {tensor.device for tensor in tensors.values() if tensor.is_cuda}
    for device in places:
        torch.cuda.current_stream(device).synchronize()
    return {name: np.array(part.numpy()) for name, part in parts.items()}


def upload(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, torch.Tensor]:
    """Arrays on the device, in one copy on the current stream, which is not waited for.

    Args:
        arrays: int32 [n] each.
        device: where to.
    """
    sizes = [len(array) for array in arrays.values()]
    # PyTorch gives pinned memory out again only after the copy from it.
    block = torch.empty(
        sum(sizes), dtype=torch.int32, device="cpu", pin_memory=device.type == "cuda"
    )
    np.concatenate([*arrays.values(), np.zeros(0, np.int32)], out=block.numpy())
    parts = block.to(device, non_blocking=True).split(sizes)
    return dict(zip(arrays, parts, strict=True))


def owned(tensor: torch.Tensor, others: Iterable[torch.Tensor]) -> torch.Tensor:
    """The tensor without gaps, copied where its memory is that of one of the others."""
    shared = {one.untyped_storage().data_ptr() for one in others}
    if tensor.untyped_storage().data_ptr() in shared:
        return tensor.clone(memory_format=torch.contiguous_format)
    return tensor.contiguous()
