"""sentence-transformers, the usual library for embeddings, as its documentation builds a model."""

from pathlib import Path

from common.packages import packages_missing
from common.sentence_transformer import SentenceTransformerContender
from contender import Contender
from models import Model

TITLE = "sentence-transformers"
TASKS = ("embeddings",)
PRECISION = "float32"
PACKAGES = ("sentence-transformers", "torch", "transformers")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    return packages_missing(("sentence_transformers", "torch"))


def prepare(model: Model, task: str, folder: Path) -> None:
    """The checkpoint is used as it is."""


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """A transformer, mean pooling and normalization in a row."""
    return SentenceTransformerContender(model, task, threads)
