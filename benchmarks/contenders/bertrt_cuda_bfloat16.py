"""bertrt on a GPU: its Triton kernels, in bfloat16."""

from pathlib import Path

from common.bertrt_runtime import TASKS as TASKS_OF_BERTRT
from common.bertrt_runtime import BertrtContender
from common.cuda import cuda_missing
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "bertrt Triton, bfloat16"
TASKS = ALL
PRECISION = "bfloat16"
PACKAGES = ("bertrt", "torch", "triton")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    return cuda_missing(("bertrt", "onnxruntime", "transformers", "triton"))


def prepare(model: Model, task: str, folder: Path) -> None:
    """Export."""
    from bertrt.export import export

    export(
        model.checkpoint(task),
        folder / "artifact",
        task=TASKS_OF_BERTRT[task],
        device="cuda",
        engine="triton",
        dtype="bfloat16",
    )


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """A runtime on the artifact; a CUDA graph is captured at the first call of each size."""
    return BertrtContender(folder / "artifact", model, task, threads)
