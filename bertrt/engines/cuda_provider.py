"""ONNX Runtime's CUDA provider: its options, its libraries, and why it is not to be had."""

import contextlib
import ctypes
import re
import sys
from pathlib import Path
from types import ModuleType

from bertrt.errors import DeviceError

__all__ = ["CUDA", "cuda_options", "failure", "missing", "preload", "refused_graphs"]

CUDA = "CUDAExecutionProvider"

_ELSEWHERE = "or export for another device"
_DRIVER = "run where there is an NVIDIA GPU and its driver, " + _ELSEWHERE
# How ONNX Runtime quotes errors of the driver, of cuBLAS and of cuDNN.
_FAILURE = re.compile(r"(CUDA|CUBLAS|CUDNN) (failure|error)[^\n]*")
# Why an open session could not capture CUDA graphs; the second is the wording of older versions.
_NO_GRAPHS = re.compile(r"This session cannot use the (graph capture|CUDA Graph) feature[^\n]*")


def cuda_options(*, graphs: bool) -> dict[str, str]:
    """The provider's options; `graphs` lets a run capture a CUDA graph."""
    return {
        # Float32 is float32, not the tensor cores' 19 bits.
        "use_tf32": "0",
        # Trying all algorithms for convolutions, the default, is of no use to a graph without any.
        "cudnn_conv_algo_search": "HEURISTIC",
        # By powers of two the memory that is held can be twice what is used.
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": "1" if graphs else "0",
    }


def preload(ort: ModuleType) -> None:
    """Load those of CUDA's and cuDNN's libraries that were installed as Python packages."""
    # What it does not find it prints, which is no part of a program's output.
    with contextlib.redirect_stdout(sys.stderr):
        ort.preload_dlls()


def refused_graphs(error: Exception) -> str | None:
    """ONNX Runtime's sentence, where opening failed because the graph cannot be captured."""
    found = _NO_GRAPHS.search(str(error))
    return found[0].strip() if found else None


def failure(error: Exception) -> DeviceError | None:
    """What to raise for an error of opening a session; None: it is not the GPU's."""
    found = _FAILURE.search(str(error))
    if found is None:
        return None
    return DeviceError(f"ONNX Runtime cannot use the GPU ({found[0].strip()}): {_DRIVER}")


def missing(ort: ModuleType) -> DeviceError:
    """What to raise where ONNX Runtime left the provider out in silence."""
    reason = _load_error(Path(ort.__file__ or "").parent / "capi")
    if "libcuda.so" in reason:
        return DeviceError(f"there is no NVIDIA driver here ({reason}): {_DRIVER}")
    if "cannot open shared object file" in reason:
        return DeviceError(
            f"not all of CUDA's libraries are here ({reason}): pip install "
            "'onnxruntime-gpu[cuda,cudnn]' brings those that it was built with"
        )
    return DeviceError(f"ONNX Runtime left out {CUDA}, and does not say why: {_DRIVER}")


def _load_error(folder: Path) -> str:
    """What the system says when it loads the provider's library; "" when it finds all it needs.

    ONNX Runtime says it on standard error only.
    """
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        return str(error)
    return ""
