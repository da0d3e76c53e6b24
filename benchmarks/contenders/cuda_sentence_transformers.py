"""sentence-transformers on a GPU, in float16."""

from pathlib import Path

from common.cuda import cuda_missing
from common.sentence_transformer import SentenceTransformerContender
from contender import Contender
from models import Model

TITLE = "sentence-transformers, float16"
TASKS = ("embeddings",)
PRECISION = "float16"
PACKAGES = ("sentence-transformers", "torch", "transformers")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    return cuda_missing(("sentence_transformers",))


def prepare(model: Model, task: str, folder: Path) -> None:
    """The checkpoint is used as it is."""


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """A transformer, mean pooling and normalization in a row, in float16 on the GPU."""
    return SentenceTransformerContender(model, task, threads, device="cuda", half=True)
