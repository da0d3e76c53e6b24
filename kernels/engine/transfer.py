"""Copy arrays between host and device."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch

__all__ = ["copy_if_shared", "download", "to_tensor", "upload"]

# A GPU copies into page-locked memory. Smaller arrays are copied out of it, because it is scarce
# and comes in powers of two; a larger one is that memory, which goes back when the array is freed.
_LARGE = 1 << 20


def download(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Copy tensors to the host, as arrays that nothing else refers to.

    Waits for the current stream of the GPUs that they are on.
    """
    copies = {name: tensor.to("cpu", non_blocking=True) for name, tensor in tensors.items()}
    for device in {tensor.device for tensor in tensors.values() if tensor.is_cuda}:
        torch.cuda.current_stream(device).synchronize()
    arrays = {}
    for name, copy in copies.items():
        # In Triton's interpreter the tensors are on the CPU, where `to` copies nothing.
        is_own = copy is not tensors[name]
        array = copy.numpy()
        arrays[name] = array if is_own and array.nbytes >= _LARGE else array.copy()
    return arrays


def upload(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, torch.Tensor]:
    """Copy int32 arrays [n] to the device, in one copy on the current stream, without waiting."""
    sizes = [len(array) for array in arrays.values()]
    # PyTorch reuses pinned memory only after the copy from it.
    block = torch.empty(
        sum(sizes), dtype=torch.int32, device="cpu", pin_memory=device.type == "cuda"
    )
    np.concatenate([*arrays.values(), np.zeros(0, np.int32)], out=block.numpy())
    parts = block.to(device, non_blocking=True).split(sizes)
    return dict(zip(arrays, parts, strict=True))


def to_tensor(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy an array to the device in its dtype, including bfloat16, which numpy itself lacks."""
    array = np.array(array, order="C")
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).to(device)
    return torch.from_numpy(array).to(device)


def copy_if_shared(tensor: torch.Tensor, others: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the tensor, contiguous, or a copy if it shares memory with one of the others."""
    shared = {other.untyped_storage().data_ptr() for other in others}
    if tensor.untyped_storage().data_ptr() in shared:
        return tensor.clone(memory_format=torch.contiguous_format)
    return tensor.contiguous()
