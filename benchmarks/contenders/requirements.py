"""Checks of what can run here: installed packages, processor instructions, and a GPU.

Each returns one sentence that names what is missing, or None.
"""

import importlib.util
import platform
from collections.abc import Sequence
from pathlib import Path

__all__ = ["bfloat16_missing", "cuda_missing", "cuda_provider_missing", "packages_missing"]

_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
_CUDA_ADVICE = "install it beside PyTorch for CUDA"


def packages_missing(*modules: str, advice: str = "run make bench-install") -> str | None:
    """Name the first module that cannot be imported."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            return f"the Python package {module} is not installed: {advice}"
    return None


def bfloat16_missing() -> str | None:
    """Say that this processor has no bfloat16 instructions.

    Libraries then emulate bfloat16, many times slower than float32, or silently compute in
    float32; a user would choose neither.
    """
    if _BFLOAT16_FLAGS & set(_cpu_flags()):
        return None
    return f"this {platform.machine()} processor has no bfloat16 instructions"


def cuda_missing(*modules: str) -> str | None:
    """Name the first missing module, PyTorch included, or say that there is no GPU."""
    if reason := packages_missing("torch", *modules, advice=_CUDA_ADVICE):
        return reason
    import torch

    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} finds no CUDA device here"
    return None


def cuda_provider_missing(*modules: str) -> str | None:
    """Name the first missing module, or say that ONNX Runtime has no CUDA provider."""
    if reason := packages_missing("onnxruntime", *modules, advice=_CUDA_ADVICE):
        return reason
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" in available:
        return None
    return f"ONNX Runtime {onnxruntime.__version__} here has only {', '.join(available)}"


def _cpu_flags() -> Sequence[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return value.split()
    return []
