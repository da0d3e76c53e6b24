"""sentence-transformers, the usual library for embeddings, as its documentation builds a model."""

from pathlib import Path
from typing import Any

import numpy as np

from common.packages import packages_missing
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
    import torch
    from sentence_transformers import SentenceTransformer, models

    torch.set_num_threads(threads)
    transformer = models.Transformer(str(model.checkpoint(task)))
    pooling = models.Pooling(transformer.get_word_embedding_dimension(), pooling_mode="mean")
    return _SentenceTransformers(
        SentenceTransformer(modules=[transformer, pooling, models.Normalize()], device="cpu")
    )


class _SentenceTransformers:
    def __init__(self, model: Any) -> None:
        self._model = model

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """What `encode` does for a batch, from token ids."""
        import torch

        with torch.inference_mode():
            features = {
                "input_ids": torch.from_numpy(input_ids),
                "attention_mask": torch.from_numpy(attention_mask),
                "token_type_ids": torch.from_numpy(token_type_ids),
            }
            return np.asarray(self._model(features)["sentence_embedding"].numpy())

    def answer(self, texts: list[str]) -> np.ndarray:
        """Its own batches: 32 texts of like length."""
        return np.asarray(self._model.encode(texts, show_progress_bar=False))
