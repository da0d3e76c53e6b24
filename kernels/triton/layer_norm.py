"""LayerNorm of one row inside a kernel, in float32, held in registers."""

import triton
import triton.language as tl

__all__ = ["layer_norm"]


@triton.jit
def layer_norm(  # type: ignore[no-untyped-def]
    x: tl.tensor,
    gamma: tl.tensor,
    beta: tl.tensor,
    column: tl.tensor,
    columns: tl.tensor,
    EPSILON: tl.constexpr,
):
    """x [BLOCK] float32, zero from `columns` on, scaled to mean 0 and variance 1, and so on.

    gamma and beta are pointers to [columns]; `column` is 0 to BLOCK - 1.
    """
    inside = column < columns
    mean = tl.sum(x, axis=0) / columns
    # Twice over the registers, not a sum of squares: that would cancel where the mean is large.
    centred = tl.where(inside, x - mean, 0.0)
    variance = tl.sum(centred * centred, axis=0) / columns
    scaled = centred / tl.sqrt(variance + EPSILON)
    scale = tl.load(gamma + column, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(beta + column, mask=inside, other=0.0).to(tl.float32)
    return scaled * scale + shift
