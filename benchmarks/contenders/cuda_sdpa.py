"""PyTorch on a GPU with scaled_dot_product_attention, transformers' own default."""

from pathlib import Path

from common.cuda import cuda_missing
from common.pytorch import TorchContender, load_model
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "PyTorch SDPA, float16"
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
    """The module as transformers loads it."""
    module = load_model(model, task, attention="sdpa", device="cuda", dtype="float16")
    return TorchContender(module, model, task, device="cuda")
