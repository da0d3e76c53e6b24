"""How far a graph's answers may be from the checkpoint's own, and what a miss looks like.

A column is an entry of an output's last axis where that is a feature: a label, a word of the
vocabulary, a hidden dimension. Each column is bounded by itself, because columns of one output may
differ in size a thousandfold, and an error that is rounding beside 1000 is an error beside 0.5.

The fixed bound is 1e-4, and a thousandth of the column's largest value if that is less: a head
whose numbers are all near 1e-6 is not proved by a graph that answers 0. For values far above 1 the
fixed bound is below what float32 can give, since its steps grow with the values and with what
cancels on the way. How much that is depends on the checkpoint, so it is measured: PyTorch's own
float32 answer is compared with its float64 answer, and the graph may differ from the former by a
few times as much. This is needed only for an output that misses the fixed bound.
"""

import numpy as np

from bertrt.export.parity.advice import REPORT, TRY

__all__ = ["describe_miss", "fixed_bound", "rounding_bound"]

_ABSOLUTE = 1e-4
_RELATIVE = 1e-3
# PyTorch's error in a column is the worst of 24 numbers or more, and so may be small by chance.
_RATIO = 8.0
# Up to so many times PyTorch's own, an error that exceeds the bound is a near miss.
_LIKE_ROUNDING = 4 * _RATIO


def fixed_bound(largest: np.ndarray) -> np.ndarray:
    """Return the largest difference allowed in each column, whatever the rounding.

    Args:
        largest: the largest magnitudes of the columns, float [n].
    """
    return np.minimum(_ABSOLUTE, _RELATIVE * largest)


def rounding_bound(eager_error: np.ndarray, largest: np.ndarray, eps: float) -> np.ndarray:
    """Return the largest difference in each column that rounding explains.

    Args:
        eager_error: PyTorch's own errors in the columns, in the same precision, float [n].
        largest: the largest magnitudes of the columns, float [n].
        eps: the step of the precision at 1. One step is allowed even where PyTorch is exact.
    """
    return _RATIO * eager_error + eps * largest


def describe_miss(error: float, largest: float, eager_error: float) -> str:
    """Describe a difference in float32 that exceeds both bounds: its bound, its look, what to try.

    Args:
        error: the difference.
        largest: the largest magnitude in its column.
        eager_error: how far PyTorch's own float32 answers there are from float64's.
    """
    size = np.array(largest)
    step = float(np.spacing(np.float32(largest)))
    fixed = float(fixed_bound(size))
    rounding = float(rounding_bound(np.array(eager_error), size, float(np.finfo(np.float32).eps)))
    if rounding > fixed:
        part = f"{_RATIO:g} times the rounding of PyTorch's own float32 answer and one step"
    elif fixed < _ABSOLUTE:
        part = "a thousandth of the values"
    else:
        part = "the absolute bound"
    # Against PyTorch's own error alone, since a step of the largest value may be far more.
    if error <= _LIKE_ROUNDING * eager_error:
        look = f"may be rounding: try --device any, and {REPORT}"
    else:
        look = f"is not rounding, the graph computes something else: {TRY}"
    times = f", {error / eager_error:.3g} times less" if eager_error else ""
    return (
        f"by {error:.3g}, {error / step:.3g} float32 steps of values up to {largest:.3g}, and at "
        f"most {max(fixed, rounding):.3g} is allowed, {part}; PyTorch's own rounding is "
        f"{eager_error:.2g}{times}, so this {look}"
    )
