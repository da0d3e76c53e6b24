"""ONNX Runtime on a GPU: its own tool's fusions, in float16, on its CUDA provider."""

from pathlib import Path

from common.cuda import cuda_provider_missing
from common.onnx_exports import optimized_export
from common.onnx_pooling import add_mean_pooling
from common.ort import OrtContender
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "ONNX Runtime CUDA, transformers optimizer"
TASKS = ALL
PRECISION = "float16"
PACKAGES = ("onnxruntime-gpu", "torch", "transformers")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    return cuda_provider_missing(("onnx", "torch", "transformers"))


def prepare(model: Model, task: str, folder: Path) -> None:
    """Export in the one form in which the tool finds attention, fuse, round to float16, pool."""
    optimized = optimized_export(model, task, folder, use_gpu=True)
    optimized.convert_float_to_float16(keep_io_types=True)
    if task == "embeddings":
        add_mean_pooling(optimized.model)
    optimized.save_model_to_file(str(folder / "model.onnx"))


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """A session on the fused graph."""
    return OrtContender(folder / "model.onnx", model, task, threads, "CUDAExecutionProvider")
