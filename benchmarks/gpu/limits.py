"""The measured limits of a GPU: its copy bandwidth and its matrix multiplication rate."""

from typing import Any

import torch
import triton

from benchmarks.gpu.timing import kernel_device, median_us

__all__ = ["describe_gpu"]


def describe_gpu(copied: int = 2**30, side: int = 8192) -> dict[str, Any]:
    """Describe the GPU, its software and its limits, for the rows that are measured on it.

    Args:
        copied: the bytes to copy.
        side: the rows and columns of the float16 matrices to multiply.

    Returns {"gpu": str, "capability": "9.0", "memory_gib": float, "torch", "triton", "cuda": str,
    "copy_gb_s": float, "matmul_tflop_s": float}; a copied byte counts twice, read and written.
    """
    properties = torch.cuda.get_device_properties()
    source = torch.empty(copied, dtype=torch.uint8, device=kernel_device())
    target = torch.empty_like(source)
    # Random numbers, because zeros draw less power and multiply faster.
    square = torch.randn(side, side, device=kernel_device()).half()
    copy = median_us(lambda: target.copy_(source))
    product = median_us(lambda: torch.mm(square, square))
    return {
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda,
        "copy_gb_s": _round(2 * copied / copy / 1e3),
        "matmul_tflop_s": _round(2 * side**3 / product / 1e6),
    }


def _round(rate: float) -> float:
    """Round to four digits."""
    return float(f"{rate:.4g}")
