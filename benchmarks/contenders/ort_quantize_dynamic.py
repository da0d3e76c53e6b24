"""ONNX Runtime's quantize_dynamic with its defaults: int8, the usual way to make BERT faster."""

from pathlib import Path

from common.onnx_exports import plain_export
from common.ort import OrtContender
from common.packages import packages_missing
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "ONNX Runtime, quantize_dynamic"
TASKS = ALL
PRECISION = "int8"
PACKAGES = ("onnxruntime", "torch", "transformers")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    return packages_missing(("onnxruntime", "onnx", "onnxscript", "torch", "transformers"))


def prepare(model: Model, task: str, folder: Path) -> None:
    """Export and quantize."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(plain_export(model, task, folder), folder / "model.onnx")


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """A session on the quantized graph."""
    return OrtContender(folder / "model.onnx", model, task, threads)
