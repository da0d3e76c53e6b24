"""PyTorch's matrix product, which on a GPU is cuBLAS's, followed by an activation."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import triton
import triton.language as tl

from bertrt.kernels.triton.activations import activate
from bertrt.kernels.triton.dependent_launch import launch_options, wait_for_predecessor

__all__ = ["matmul"]

_BLOCK = 1024
_SETTINGS_LOCK = threading.Lock()


@triton.jit
def _activate_kernel(
    y_ptr: tl.tensor,  # [count], overwritten
    count: int,
    NAME: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
) -> None:
    wait_for_predecessor(DEPENDENT)
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = index < count
    value = tl.load(y_ptr + index, mask=mask, other=0.0).to(tl.float32)
    result = activate(value, NAME, y_ptr.dtype.element_ty)
    tl.store(y_ptr + index, result.to(y_ptr.dtype.element_ty), mask=mask)


def matmul(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    activation: str = "",
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute activation(x [T, K] · weight [K, N] + bias [N]), in x's dtype.

    With a residual [T, N], which has neither bias nor activation, that is overwritten by its sum
    with the product. Sums are in float32. Products of float32 are in full precision, unless the
    process has allowed PyTorch to use TF32.
    """
    with _sums_in_float32():
        if residual is not None:
            # In place, because PyTorch would copy it first.
            y = residual.addmm_(x, weight)
        else:
            y = torch.mm(x, weight) if bias is None else torch.addmm(bias, x, weight)
    if activation and y.numel() > 0:
        grid = (triton.cdiv(y.numel(), _BLOCK),)
        _activate_kernel[grid](
            y, y.numel(), NAME=activation, BLOCK=_BLOCK, num_warps=4, **launch_options()
        )
    return y


@contextmanager
def _sums_in_float32() -> Iterator[None]:
    """Forbid cuBLAS to add up parts of a sum in half precision, which PyTorch allows by default.

    The settings are the process's. One thread at a time changes them, so that no other session
    launches under the settings that this one restores, or restores those that this one made.
    """
    settings = torch.backends.cuda.matmul
    with _SETTINGS_LOCK:
        before = (
            settings.allow_fp16_reduced_precision_reduction,
            settings.allow_bf16_reduced_precision_reduction,
        )
        settings.allow_fp16_reduced_precision_reduction = False
        settings.allow_bf16_reduced_precision_reduction = False
        try:
            yield
        finally:
            settings.allow_fp16_reduced_precision_reduction = before[0]
            settings.allow_bf16_reduced_precision_reduction = before[1]
