"""The activations of Linear inside a kernel, on float32 values."""

import triton
import triton.language as tl

__all__ = ["activate"]


@triton.jit
def activate(x: tl.tensor, NAME: tl.constexpr):  # type: ignore[no-untyped-def]
    """Apply the activation NAME of `bertrt.kernels.ops.activations` to x, float32."""
    if NAME == "gelu":
        x = 0.5 * x * (1.0 + tl.math.erf(x * 0.7071067811865476))
    elif NAME == "gelu_tanh":
        # x/2 · (1 + tanh u) = x · sigmoid(2u), which loses no digits where tanh u is near -1.
        x = x * _sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    elif NAME == "relu":
        x = tl.where(x < 0.0, 0.0, x)  # NaN stays NaN
    elif NAME == "silu":
        x = x * _sigmoid(x)
    elif NAME == "tanh":
        x = _tanh(x)
    else:
        tl.static_assert(NAME == "", "unknown activation")
    return x


@triton.jit
def _tanh(x: tl.tensor):  # type: ignore[no-untyped-def]
    """Compute tanh in float32, to a few units in the last place."""
    # Near zero the quotient's difference loses digits; a short series does not.
    square = x * x
    series = x * (1.0 + square * (-1.0 / 3 + square * (2.0 / 15 - square * (17.0 / 315))))
    power = tl.exp(-2.0 * tl.abs(x))
    quotient = (1.0 - power) / (1.0 + power)
    return tl.where(square < 0.01, series, tl.where(x < 0.0, -quotient, quotient))


@triton.jit
def _sigmoid(x: tl.tensor):  # type: ignore[no-untyped-def]
    """Compute the logistic function with a power that cannot overflow."""
    power = tl.exp(-tl.abs(x))
    return tl.where(x < 0.0, power, 1.0) / (1.0 + power)
