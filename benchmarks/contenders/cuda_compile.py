"""torch.compile on a GPU at its most: max-autotune, which replays CUDA graphs, for each shape.

Where shapes vary it compiles once for all of them, which it does without CUDA graphs.
"""

from pathlib import Path

from common.cuda import cuda_missing
from common.pytorch import TorchContender, load_model
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "torch.compile, max-autotune"
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
    """The module, compiled when it is first called."""
    import torch
    import torch._dynamo

    torch._dynamo.reset()
    # One graph for each shape of the benchmark; the default of 8 would leave later ones eager.
    torch._dynamo.config.recompile_limit = 64
    module = load_model(model, task, attention="sdpa", device="cuda", dtype="float16")
    return TorchContender(
        torch.compile(module, mode="max-autotune", dynamic=False),
        model,
        task,
        forward_varied=torch.compile(module, dynamic=True),
        device="cuda",
    )
