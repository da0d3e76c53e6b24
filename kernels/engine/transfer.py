"""Copy arrays between host and device."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

__all__ = ["copy_if_shared", "start_download", "to_tensor", "upload"]

# A GPU copies into page-locked memory. Smaller arrays are copied out of it, because it is scarce
# and comes in powers of two; a larger one is that memory, which goes back when the array is freed.
_LARGE = 1 << 20


def start_download(tensors: Mapping[str, torch.Tensor]) -> Callable[[], dict[str, np.ndarray]]:
    """Copy tensors to the host, on the current stream of the GPUs that they are on.

    Work that comes later on that stream may overwrite the tensors.

    Returns a function that waits for the copies and returns them as arrays that nothing else refers
    to. It may be called in another thread.
    """
    copies = {name: _copy_to_host(tensor) for name, tensor in tensors.items()}
    copied = []
    for device in {tensor.device for tensor in tensors.values() if tensor.is_cuda}:
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(device))
        copied.append(event)

    def wait() -> dict[str, np.ndarray]:
        for event in copied:
            event.synchronize()
        arrays = {name: copy.numpy() for name, copy in copies.items()}
        return {
            name: array if array.nbytes >= _LARGE else array.copy()
            for name, array in arrays.items()
        }

    return wait


def _copy_to_host(tensor: torch.Tensor) -> torch.Tensor:
    copy = tensor.to("cpu", non_blocking=True)
    # In Triton's interpreter the tensor is on the CPU, where `to` copies nothing.
    return tensor.clone() if copy is tensor else copy


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
