"""Return memory that the C library keeps after `free` to the system."""

import ctypes

__all__ = ["trim"]


def trim() -> None:
    """Call glibc's `malloc_trim`; does nothing with another C library.

    After ONNX Runtime has arranged a weight for its kernels, it frees the weight as stored. glibc
    keeps most of that memory for later allocations that never come: half a model's weights.
    """
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    malloc_trim(0)
