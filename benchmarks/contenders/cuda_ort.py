"""ONNX Runtime on a GPU: its own tool's fusions, in float16, on its CUDA provider."""

from pathlib import Path

from common.onnx_exports import optimized_export
from common.ort import OrtContender, provider_missing
from common.packages import packages_missing
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "ONNX Runtime CUDA, transformers optimizer"
TASKS = ALL
PRECISION = "float16"
PACKAGES = ("onnxruntime-gpu", "torch", "transformers")
ENVIRONMENT = "bench"
_PROVIDER = "CUDAExecutionProvider"


def missing() -> str | None:
    """Why it cannot run here."""
    packages = ("onnxruntime", "onnx", "torch", "transformers")
    return packages_missing(packages) or provider_missing(_PROVIDER)


def prepare(model: Model, task: str, folder: Path) -> None:
    """Export in the one form in which the tool finds attention, fuse, and round to float16."""
    optimized = optimized_export(model, task, folder, use_gpu=True)
    optimized.convert_float_to_float16(keep_io_types=True)
    optimized.save_model_to_file(str(folder / "model.onnx"))


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """A session on the fused graph."""
    return OrtContender(folder / "model.onnx", model, task, threads, _PROVIDER)
