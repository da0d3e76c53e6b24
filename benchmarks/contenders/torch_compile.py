"""torch.compile with frozen weights: compiled for each fixed shape, and once for texts of any."""

import shutil
from pathlib import Path

from common.packages import packages_missing
from common.pytorch import TorchContender, load_model
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "torch.compile"
TASKS = ALL
PRECISION = "float32"
PACKAGES = ("torch", "transformers")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    if shutil.which("g++") is None:
        return "torch.compile needs a C++ compiler, and there is no g++: install one"
    return packages_missing(("torch", "transformers"))


def prepare(model: Model, task: str, folder: Path) -> None:
    """Compiling happens at the first call of each shape, before anything is timed."""


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """The module, compiled when it is first called."""
    import torch
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.reset()
    torch._inductor.config.freezing = True
    # One graph for each shape of the benchmark; the default of 8 would leave later ones eager.
    torch._dynamo.config.recompile_limit = 64
    module = load_model(model, task, attention="sdpa", threads=threads)
    return TorchContender(
        torch.compile(module, dynamic=False),
        model,
        task,
        forward_varied=torch.compile(module, dynamic=True),
    )
