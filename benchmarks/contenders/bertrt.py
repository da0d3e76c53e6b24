"""bertrt in float32, exported for the CPU."""

from pathlib import Path

from common.bertrt_runtime import TASKS as TASKS_OF_BERTRT
from common.bertrt_runtime import BertrtContender
from common.packages import packages_missing
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "bertrt"
TASKS = ALL
PRECISION = "float32"
PACKAGES = ("bertrt", "onnxruntime")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    return packages_missing(("bertrt", "onnxruntime", "torch", "transformers"))


def prepare(model: Model, task: str, folder: Path) -> None:
    """Export."""
    from bertrt.export import export

    export(model.checkpoint(task), folder / "artifact", task=TASKS_OF_BERTRT[task])


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """A runtime on the artifact."""
    return BertrtContender(folder / "artifact", model, task, threads)
