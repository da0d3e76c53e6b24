"""What the machine is: versions, the GPU, and its limits."""

import importlib.metadata
import shutil
import sys

import torch

from benchmarks.gpu.limits import describe_gpu
from benchmarks.gpu.visit.visit import NO_GPU, Visit
from benchmarks.harness.machine import describe_machine

__all__ = ["run"]

_PACKAGES = (
    "torch triton numpy transformers tokenizers onnx onnx_ir onnxscript onnxruntime safetensors "
    "sentence-transformers flash-attn pytest pytest-xdist pytest-timeout"
).split()


def run(visit: Visit) -> None:
    """Write the facts; exit with `NO_GPU` if PyTorch finds none."""
    versions = {name: _version(name) for name in _PACKAGES}
    visit.add("facts", versions=versions, python=sys.version, compiler=shutil.which("gcc"))
    visit.add("facts", **describe_machine())
    if visit.dry_run:
        visit.add("facts", **describe_gpu(copied=1024, side=16))
        return
    if not torch.cuda.is_available():
        print("gpu_visit.py: needs an NVIDIA GPU, and PyTorch finds none here")
        sys.exit(NO_GPU)
    visit.add("facts", **describe_gpu())


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
