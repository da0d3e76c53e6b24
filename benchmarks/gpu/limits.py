"""The measured limits of a GPU: its copy bandwidth and its matrix multiplication rate."""

from collections.abc import Callable
from typing import Any

import torch
import triton

__all__ = ["describe_gpu", "median_us"]

_COPIED = 2**30
_SIDE = 8192


def describe_gpu() -> dict[str, Any]:
    """Describe the GPU, its software and its limits, for the rows that are measured on it.

    Returns {"gpu": str, "capability": "9.0", "memory_gib": float, "torch", "triton", "cuda": str,
    "copy_gb_s": float, "matmul_tflop_s": float}; a copied byte counts twice, read and written.
    """
    device = torch.cuda.get_device_properties()
    source = torch.empty(_COPIED, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    # Random numbers, because zeros draw less power and multiply faster.
    square = torch.randn(_SIDE, _SIDE, device="cuda").half()
    copy = median_us(lambda: target.copy_(source))
    product = median_us(lambda: torch.mm(square, square))
    return {
        "gpu": device.name,
        "capability": f"{device.major}.{device.minor}",
        "memory_gib": round(device.total_memory / 2**30, 1),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda,
        "copy_gb_s": round(2 * _COPIED / copy / 1e3, 1),
        "matmul_tflop_s": round(2 * _SIDE**3 / product / 1e6, 1),
    }


def median_us(run: Callable[[], Any], milliseconds: int = 100) -> float:
    """Return the median time of `run` in microseconds, with its data not in the GPU's cache.

    Measures for about this many milliseconds, after a quarter of that to warm up.
    """
    settings = {"warmup": milliseconds // 4, "rep": milliseconds, "return_mode": "median"}
    return float(triton.testing.do_bench(run, **settings)) * 1e3
