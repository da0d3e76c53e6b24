"""What the C library keeps of freed memory, given back to the system."""

import ctypes

__all__ = ["trim"]


def trim() -> None:
    """Give freed memory back; does nothing where the C library is not glibc.

    ONNX Runtime frees each weight as it was stored when it has arranged it for its kernels. glibc
    keeps most of that for later allocations, which do not come: half a model's weights.
    """
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    malloc_trim(0)
