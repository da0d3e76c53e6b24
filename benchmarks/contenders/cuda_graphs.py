"""PyTorch SDPA on a GPU, with a CUDA graph for each shape."""

from pathlib import Path

from common.cuda import Graphed, cuda_missing
from common.pytorch import TorchContender, load_model
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "PyTorch SDPA, CUDA graphs"
TASKS = ALL
PRECISION = "float16"
PACKAGES = ("torch", "transformers")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    return cuda_missing(("transformers",))


def prepare(model: Model, task: str, folder: Path) -> None:
    """The checkpoint is used as it is."""


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """The module, captured at the first call of each shape."""
    module = load_model(model, task, attention="sdpa", device="cuda", dtype="float16")
    return TorchContender(Graphed(module), model, task, device="cuda")
