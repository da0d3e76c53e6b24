"""OpenVINO with its bfloat16 hint, on a processor that computes in it."""

from pathlib import Path

from common.openvino_model import OpenVinoContender, convert
from common.packages import bfloat16_missing, packages_missing
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "OpenVINO bfloat16"
TASKS = ALL
PRECISION = "bfloat16"
PACKAGES = ("openvino", "torch", "transformers")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    return packages_missing(("openvino", "torch", "transformers")) or bfloat16_missing()


def prepare(model: Model, task: str, folder: Path) -> None:
    """Convert; the weights stay in float32 until the model is compiled."""
    convert(model, task, folder / "model.xml")


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """A compiled model that computes in bfloat16."""
    return OpenVinoContender(folder / "model.xml", model, task, threads, precision="bf16")
