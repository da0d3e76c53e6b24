"""ONNX Runtime's CUDA provider: its options, its libraries, and errors that say what is missing."""

import contextlib
import ctypes
import re
import sys
from pathlib import Path
from types import ModuleType

from bertrt.errors import DeviceError

__all__ = [
    "CUDA",
    "cuda_options",
    "gpu_error",
    "graphs_refused",
    "preload_libraries",
    "provider_missing",
]

CUDA = "CUDAExecutionProvider"

_OTHER_DEVICE = "or export for another device"
_NEEDS_DRIVER = "run where there is an NVIDIA GPU and its driver, " + _OTHER_DEVICE
# How ONNX Runtime quotes errors of the driver, of cuBLAS and of cuDNN.
_FAILURE = re.compile(r"(CUDA|CUBLAS|CUDNN) (failure|error)[^\n]*")
# Why an open session cannot capture CUDA graphs; the second wording is that of older versions.
_NO_GRAPHS = re.compile(r"This session cannot use the (graph capture|CUDA Graph) feature[^\n]*")


def cuda_options(*, graphs: bool) -> dict[str, str]:
    """Return the provider's options; `graphs` lets runs capture CUDA graphs."""
    return {
        # Compute float32 products in float32, not in the tensor cores' 19-bit format.
        "use_tf32": "0",
        # The default tries all convolution algorithms, and these graphs have no convolutions.
        "cudnn_conv_algo_search": "HEURISTIC",
        # Growing by powers of two can hold twice the memory that is used.
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": "1" if graphs else "0",
    }


def preload_libraries(ort: ModuleType) -> None:
    """Load the CUDA and cuDNN libraries that are installed as Python packages."""
    # ONNX Runtime prints what it does not find, which does not belong in a program's output.
    with contextlib.redirect_stdout(sys.stderr):
        ort.preload_dlls()


def graphs_refused(error: Exception) -> str | None:
    """Return ONNX Runtime's reason if opening failed because the graph cannot be captured."""
    found = _NO_GRAPHS.search(str(error))
    return found[0].strip() if found else None


def gpu_error(error: Exception) -> DeviceError | None:
    """Return the error to raise if a session could not be opened because of the GPU, or None."""
    found = _FAILURE.search(str(error))
    if found is None:
        return None
    return DeviceError(f"ONNX Runtime cannot use the GPU ({found[0].strip()}): {_NEEDS_DRIVER}")


def provider_missing(ort: ModuleType) -> DeviceError:
    """Return the error to raise if ONNX Runtime silently left out the provider."""
    reason = _load_error(Path(ort.__file__ or "").parent / "capi")
    if "libcuda.so" in reason:
        return DeviceError(f"there is no NVIDIA driver here ({reason}): {_NEEDS_DRIVER}")
    if "cannot open shared object file" in reason:
        return DeviceError(
            f"some of CUDA's libraries are missing ({reason}): pip install "
            "'onnxruntime-gpu[cuda,cudnn]' brings those that it was built with"
        )
    return DeviceError(f"ONNX Runtime left out {CUDA} without a reason: {_NEEDS_DRIVER}")


def _load_error(folder: Path) -> str:
    """Return the system's message when it cannot load the provider's library; "" if it can.

    ONNX Runtime prints this message on standard error only.
    """
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        return str(error)
    return ""
