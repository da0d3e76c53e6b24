"""bertrt in int8: static activation scales, and the layers that need it left in float32."""

from pathlib import Path
from typing import Any

from common.bertrt_runtime import TASKS as TASKS_OF_BERTRT
from common.bertrt_runtime import BertrtContender
from common.packages import packages_missing
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "bertrt int8"
TASKS = ALL
PRECISION = "int8"
PACKAGES = ("bertrt", "onnxruntime")
ENVIRONMENT = "bench"

# Logits of an untrained head are near ties, which no int8 keeps. The row's error says what it gave.
_UNTRAINED = {"min_agreement": 0.5}


def missing() -> str | None:
    """Why it cannot run here."""
    if reason := packages_missing(("bertrt", "onnxruntime", "torch", "transformers")):
        return reason
    if packages_missing(("bertrt.export.quantize",)):
        return "this version of bertrt has no int8 export"
    return None


def prepare(model: Model, task: str, folder: Path) -> None:
    """Export, and search for the fastest mixture that keeps its word."""
    from bertrt.export import export

    bounds: dict[str, Any] = {} if task in model.trained else _UNTRAINED
    export(
        model.checkpoint(task),
        folder / "artifact",
        task=TASKS_OF_BERTRT[task],
        dtype="int8",
        **bounds,
    )


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """A runtime on the artifact."""
    return BertrtContender(folder / "artifact", model, task, threads)
