"""Round weights to float16 or bfloat16, and refuse those that become infinite."""

import ml_dtypes
import numpy as np

from bertrt.errors import ExportError

__all__ = ["HALVES", "rounded"]

HALVES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def rounded(name: str, data: np.ndarray, dtype: str) -> np.ndarray:
    """Round a weight to half precision.

    Args:
        name: the weight's name, for the message.
        data: float32, of any shape.
        dtype: "float16" or "bfloat16".

    Raises ExportError for a finite number that becomes infinite.
    """
    with np.errstate(over="ignore"):
        half = data.astype(HALVES[dtype])
    overflows = np.isfinite(data) & ~np.isfinite(half.astype(np.float32))
    if overflows.any():
        other = "bfloat16 (engine triton) or float32" if dtype == "float16" else "float32"
        raise ExportError(
            f"{name} has the value {data[overflows].flat[0]:g}, which is too large for {dtype}: "
            f"export with --dtype {other}"
        )
    return half
