"""OpenVINO in float32, converted from PyTorch and compiled for latency."""

from pathlib import Path

from common.openvino_model import OpenVinoContender, convert
from common.packages import packages_missing
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "OpenVINO float32"
TASKS = ALL
PRECISION = "float32"
PACKAGES = ("openvino", "torch", "transformers")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    return packages_missing(("openvino", "torch", "transformers"))


def prepare(model: Model, task: str, folder: Path) -> None:
    """Convert."""
    convert(model, task, folder / "model.xml")


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """A compiled model that computes in float32."""
    return OpenVinoContender(folder / "model.xml", model, task, threads, precision="f32")
