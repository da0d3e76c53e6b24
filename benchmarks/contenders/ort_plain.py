"""ONNX Runtime on PyTorch's default export, all of ONNX Runtime's optimizations on."""

from pathlib import Path

from common.onnx_exports import plain_export
from common.ort import OrtContender
from common.packages import packages_missing
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "ONNX Runtime"
TASKS = ALL
PRECISION = "float32"
PACKAGES = ("onnxruntime", "torch", "transformers")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    return packages_missing(("onnxruntime", "onnxscript", "torch", "transformers"))


def prepare(model: Model, task: str, folder: Path) -> None:
    """Export."""
    plain_export(model, task, folder)


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """A session on the export."""
    return OrtContender(plain_export(model, task, folder), model, task, threads)
