"""The activations of Linear inside a kernel, on float32 values."""

import triton
import triton.language as tl

__all__ = ["GELU_END", "GELU_POLYNOMIAL", "activate"]

# Φ(x), the normal distribution's share below x, is near 0.5 + x · P(2 · (x / END)² - 1) up to
# ±END, and 0 or 1 beyond. P, by ascending powers, has the least |x| · error of its degree, with
# P(1) · END a little above 0.5; tests/kernels/triton/test_gelu.py computes it. Powers of a number
# between -1 and 1 lose no digits in float32, which powers of x² would.
GELU_END: tl.constexpr = tl.constexpr(4.40625)
GELU_POLYNOMIAL: tl.constexpr = tl.constexpr(
    (
        0.16018129885196686,
        -0.07852207869291306,
        0.05522577092051506,
        -0.040121890604496,
        0.026858478784561157,
        -0.01602817326784134,
        0.011061664670705795,
        -0.007969774305820465,
        0.0027900112327188253,
    )
)


@triton.jit
def activate(x: tl.tensor, NAME: tl.constexpr, DTYPE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Apply the activation NAME of `bertrt.kernels.ops.activations` to x, float32.

    DTYPE is the dtype that the result is rounded to. In half precision "gelu" is a polynomial,
    whose error is below a third of what that rounding adds.
    """
    if NAME == "gelu":
        if DTYPE.is_fp32():
            x = 0.5 * x * (1.0 + tl.math.erf(x * 0.7071067811865476))
        else:
            x = _gelu_polynomial(x)
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
def _gelu_polynomial(x: tl.tensor):  # type: ignore[no-untyped-def]
    """Compute gelu to 2.6e-5, and exactly x or 0 beyond ±GELU_END."""
    z = tl.minimum(tl.maximum(x, -GELU_END), GELU_END)
    t = z * z * (2.0 / (GELU_END * GELU_END)) - 1.0
    p = GELU_POLYNOMIAL[8]
    for power in tl.static_range(7, -1, -1):
        p = p * t + GELU_POLYNOMIAL[power]
    return x * tl.minimum(tl.maximum(0.5 + z * p, 0.0), 1.0)


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
