"""bertrt on a GPU through ONNX Runtime's CUDA provider, in float16."""

from pathlib import Path

from common.bertrt_runtime import TASKS as TASKS_OF_BERTRT
from common.bertrt_runtime import BertrtContender
from common.cuda import cuda_provider_missing
from contender import Contender
from models import Model

TITLE = "bertrt ONNX Runtime CUDA"
# Its graphs give all tokens' logits, so that fill-mask says nothing new.
TASKS = ("embeddings", "classification")
PRECISION = "float16"
PACKAGES = ("bertrt", "onnxruntime-gpu")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    return cuda_provider_missing(("bertrt", "torch", "transformers"))


def prepare(model: Model, task: str, folder: Path) -> None:
    """Export."""
    from bertrt.export import export

    export(
        model.checkpoint(task),
        folder / "artifact",
        task=TASKS_OF_BERTRT[task],
        device="cuda",
        engine="ort",
        dtype="float16",
    )


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """A runtime on the artifact."""
    return BertrtContender(folder / "artifact", model, task, threads)
