"""LayerNorm of one row inside a kernel, in float32 registers."""

import triton
import triton.language as tl

__all__ = ["layer_norm"]


@triton.jit
def layer_norm(  # type: ignore[no-untyped-def]
    x: tl.tensor,  # float32 [BLOCK], zero from `columns` on
    gamma_ptr: tl.tensor,  # [columns]
    beta_ptr: tl.tensor,  # [columns]
    column: tl.tensor,  # int32 [BLOCK]: 0 to BLOCK - 1
    columns: tl.tensor,
    EPSILON: tl.constexpr,
):
    """Scale x to mean 0 and variance 1, times gamma, plus beta; float32 [BLOCK]."""
    mask = column < columns
    mean = tl.sum(x, axis=0) / columns
    # Two passes over the registers: a sum of squares would cancel if the mean is large.
    centred = tl.where(mask, x - mean, 0.0)
    variance = tl.sum(centred * centred, axis=0) / columns
    scaled = centred / tl.sqrt(variance + EPSILON)
    gamma = tl.load(gamma_ptr + column, mask=mask, other=0.0).to(tl.float32)
    beta = tl.load(beta_ptr + column, mask=mask, other=0.0).to(tl.float32)
    return scaled * gamma + beta
