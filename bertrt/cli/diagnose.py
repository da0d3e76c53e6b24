"""The checks of `bertrt doctor`: installed packages, ONNX Runtime, CPUs and GPUs."""

import importlib
import importlib.metadata
import platform
import re
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from bertrt._version import __version__
from bertrt.engines.ort import onnxruntime, telemetry_disabled, wheels
from bertrt.errors import DeviceError
from bertrt.scheduling.cpu_info import read_cpu_info
from bertrt.scheduling.threads import choose_threads

__all__ = ["diagnose"]

_RUNTIME = ("numpy", "tokenizers")
# Found by their metadata only: importing PyTorch takes seconds.
_EXPORT = ("torch", "transformers", "onnx", "onnxscript", "safetensors", "huggingface_hub")
_GPU = ("triton",)
# What the Triton engine imports.
_TRITON = ("torch", "triton", "onnx")
_GPU_MODEL = re.compile(r"^Model:\s*(.+?)\s*$", re.MULTILINE)
_CPU_PROVIDER, _CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"


def diagnose(root: Path = Path("/")) -> tuple[dict[str, Any], list[str]]:
    """Return findings and problems.

    Args:
        root: where `dev` and `proc` are mounted; another folder in tests.

    Findings are by name, ready for JSON. Problems are what prevents inference, each a sentence
    that says what to do.
    """
    problems = [problem for name in _RUNTIME if (problem := _import_problem(name))]
    providers: list[str] = []
    try:
        providers = list(onnxruntime().get_available_providers())
    except DeviceError as error:
        problems.append(str(error))
    else:
        if _CPU_PROVIDER not in providers:
            problems.append(
                f"this ONNX Runtime has no {_CPU_PROVIDER}, only {', '.join(providers)}: reinstall "
                "it with pip install 'bertrt[cpu]'"
            )
    threads = choose_threads()
    cpu = read_cpu_info(root)
    findings = {
        "bertrt": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": f"{platform.system()} {platform.machine()}",
        "runtime": {name: _version(name) for name in _RUNTIME},
        "wheels": dict(wheels()),
        "providers": providers,
        "threads": threads.count,
        "threads_reason": threads.reason,
        "processor": cpu.name,
        "instruction_sets": list(cpu.sets),
        "int8": cpu.int8,
        "telemetry_off": telemetry_disabled(),
        "for_export": {name: _version(name) for name in _EXPORT},
        "for_gpu": {name: _version(name) for name in _GPU},
        "gpu": _gpu(root, providers),
    }
    return findings, problems


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _import_problem(name: str) -> str | None:
    try:
        importlib.import_module(name)
    except ImportError as error:
        return f"{name} cannot be imported ({error}): install it with pip install {name}"
    return None


def _gpu(root: Path, providers: list[str]) -> str:
    """Describe the NVIDIA GPUs, from the driver's files, and which engines could use them."""
    devices = [path.name for path in (root / "dev").glob("nvidia*") if path.name[6:].isdecimal()]
    if devices:
        models = _gpu_models(root)
        names = f" ({', '.join(models)})" if models else ""
        usable = "usable" if _CUDA_PROVIDER in providers else "not usable"
        missing = [name for name in _TRITON if _version(name) is None]
        triton = f"needs {' and '.join(missing)}" if missing else "has its packages"
        return (
            f"{', '.join(sorted(devices))}{names}, {usable} by this ONNX Runtime; "
            f"the Triton engine {triton}"
        )
    if shutil.which("nvidia-smi"):
        return "no device files, although nvidia-smi is installed: is the GPU passed through?"
    return "none"


def _gpu_models(root: Path) -> list[str]:
    """Return the GPUs' names from the driver's files; equal ones once, with their number."""
    files = (root / "proc/driver/nvidia/gpus").glob("*/information")
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    models = Counter(match[1] for text in texts if (match := _GPU_MODEL.search(text)))
    return [name if count == 1 else f"{count} x {name}" for name, count in sorted(models.items())]
