"""PyTorch SDPA with the weights in bfloat16, on a processor that computes in it."""

from pathlib import Path

from common.packages import bfloat16_missing, packages_missing
from common.pytorch import TorchContender, load_model
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "PyTorch bfloat16"
TASKS = ALL
PRECISION = "bfloat16"
PACKAGES = ("torch", "transformers")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    return packages_missing(("torch", "transformers")) or bfloat16_missing()


def prepare(model: Model, task: str, folder: Path) -> None:
    """The checkpoint is used as it is."""


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """The module in bfloat16."""
    module = load_model(model, task, attention="sdpa", threads=threads)
    return TorchContender(module.bfloat16(), model, task)
