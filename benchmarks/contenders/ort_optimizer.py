"""ONNX Runtime on a graph fused by its own tool, onnxruntime.transformers.optimizer."""

from pathlib import Path

from common.onnx_exports import optimized_export
from common.ort import OrtContender
from common.packages import packages_missing
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "ONNX Runtime, transformers optimizer"
TASKS = ALL
PRECISION = "float32"
PACKAGES = ("onnxruntime", "torch", "transformers")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    return packages_missing(("onnxruntime", "onnx", "torch", "transformers"))


def prepare(model: Model, task: str, folder: Path) -> None:
    """Export in the one form in which the tool finds attention, and fuse."""
    optimized_export(model, task, folder).save_model_to_file(str(folder / "model.onnx"))


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """A session on the fused graph."""
    return OrtContender(folder / "model.onnx", model, task, threads)
