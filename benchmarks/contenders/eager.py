"""PyTorch as most people run it: transformers, eager attention, float32. The baseline."""

from pathlib import Path

from common.packages import packages_missing
from common.pytorch import TorchContender, load_model
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "PyTorch eager"
TASKS = ALL
PRECISION = "float32"
PACKAGES = ("torch", "transformers")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    return packages_missing(("torch", "transformers"))


def prepare(model: Model, task: str, folder: Path) -> None:
    """The checkpoint is used as it is."""


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """The module as transformers loads it."""
    return TorchContender(load_model(model, task, attention="eager", threads=threads), model, task)
